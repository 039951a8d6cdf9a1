"""Counts the frames of MPEG audio (MP1, MP2, MP3), whose header may say nothing of its length, or too little."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cache

from crossweave.encoders.container_headers import after_id3

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz, by version
_KBITS = {  # by whether it is version 1, and layer; index 0 is free format, whose frames do not say their size
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_AGREEING = 3  # frames in a row that are no accident among other bytes
_SEEN = 48  # bytes of a frame among which a header of the file, if it is one, has its name


@dataclass(frozen=True)
class _Frame:
    size: int  # bytes
    samples: int
    rate: int  # Hz
    kind: tuple[int, int, bool]  # what all frames of a sound share: version and layer, rate, one channel


@dataclass(frozen=True)
class Counted:
    """The frames of a file, in runs of one kind with nothing between them.

    `samples` count at the first one's rate; `said` is whether a header that libsndfile reads says as much; `even`,
    whether all are of one kind; `cut`, whether bytes are missing.
    """

    runs: tuple[slice, ...]
    samples: int
    said: bool
    even: bool
    cut: bool


def count_frames(data: bytes) -> Counted | None:
    """The frames of an MPEG sound, between whatever tags and rubbish; None: there are none that say their size."""
    at = _next_run(data, 0, 1)
    first = frame = _frame_at(data, at)
    if first is None:
        return None
    samples, runs, kinds, end = 0.0, [], {first.kind}, at
    while frame is not None:
        count, end = _run(data, at, frame.kind)
        samples += count * frame.samples * first.rate / frame.rate
        runs.append(slice(at, end))
        kinds.add(frame.kind)
        at = _next_run(data, end, _AGREEING)
        frame = _frame_at(data, at)
    claimed, is_xing = _claim(data, runs[0].start)
    frames = round(samples / first.samples) - is_xing
    said = is_xing and claimed + 1 >= frames
    cut = end > len(data) or (0 < len(data) - end < 4 and data[end] == 0xFF)
    cut = cut or (not is_xing and claimed > frames)
    return Counted(tuple(runs), frames * first.samples, said, len(kinds) == 1, cut)


def may_be_frame(data: bytes) -> bool:
    """Whether the bytes begin as a frame does that says its size, or one of free format."""
    free = 0x10 if data[2] < 0x10 else 0
    return data[0] == 0xFF and _frame(data[1], data[2] | free, False) is not None


def _run(data: bytes, at: int, kind: tuple[int, int, bool]) -> tuple[int, int]:
    """How many frames of a kind follow each other, the last one perhaps cut, and where they end."""
    count = 0
    while (frame := _frame_at(data, at)) is not None and frame.kind == kind:
        at += frame.size
        count += at <= len(data)
    return count, at


def _next_run(data: bytes, at: int, fewest: int) -> int:
    """Where frames begin or go on; the end of the data: nowhere."""
    at = after_id3(data, at)
    for found in _SYNC.finditer(data, at):
        frame = _frame_at(data, found.start())
        if frame is not None and _agree(data, found.start(), frame, fewest):
            return found.start()
    return len(data)


def _agree(data: bytes, at: int, frame: _Frame, fewest: int) -> bool:
    """Whether frames of a kind follow each other here; `fewest` do where the data end with them."""
    for found in range(_AGREEING):
        if at == len(data):
            return found >= fewest
        following = _frame_at(data, at)
        if following is None or following.kind != frame.kind:
            return False
        at += following.size
    return True


def _claim(data: bytes, at: int) -> tuple[int, bool]:
    """How many frames the header that stands in the first frame's place claims, and whether it is a Xing header."""
    head = data[at : at + _SEEN + 16]
    for name in (b"Xing", b"Info"):
        found = head.find(name, 4, _SEEN)
        if found >= 0:
            flags, frames = struct.unpack_from(">II", head.ljust(found + 12, b"\0"), found + 4)
            return (int(frames) if flags & 1 else 0), True
    found = head.find(b"VBRI", 4, _SEEN)
    return (int(struct.unpack_from(">I", head.ljust(found + 18, b"\0"), found + 14)[0]) if found >= 0 else 0), False


def _frame_at(data: bytes, at: int) -> _Frame | None:
    if at + 4 > len(data) or data[at] != 0xFF:
        return None
    return _frame(data[at + 1], data[at + 2], data[at + 3] >> 6 == 3)


@cache
def _frame(second: int, third: int, mono: bool) -> _Frame | None:
    """What the header of a frame says; None: it is none, or of free format."""
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    bits, rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    if second < 0xE0 or version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    hertz, per_second = _RATES[version][rate], 1000 * _KBITS[version == 3, layer][bits - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    slot = 4 if layer == 1 else 1  # bytes
    size = (samples // 8 // slot * per_second // hertz + padding) * slot
    return _Frame(size, samples, hertz, (second & 0x1E, third & 0x0C, mono))
