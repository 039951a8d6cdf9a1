"""Sizes in the headers of WAV, RF64, AIFF, AU and MP3 against the bytes that are there.

Who writes to a pipe cannot go back to put the size in: it stays zero, or as large as the field allows. libsndfile takes
zero for "no sound", guesses an MP3's from its first frame, and says nothing where bytes are missing; so sizes are
settled before it reads them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from crossweave.encoders.container_headers import after_id3
from crossweave.encoders.mpeg_frames import count_frames, may_be_frame
from crossweave.encoders.refusals import MediaError

_TAG = b"ID3\3\0\0\0\0\0\x0a" + b"\0" * 10  # empty; see _mpeg
_UNKNOWN = 0x7FFF0000  # writers that stream put such a size, or zero, where they cannot know it


@dataclass(frozen=True)
class Settled:
    """A file whose header says what is there: `present` bytes of sound, `missing` fewer than it said before.

    Where it cannot say so, `samples` were counted; where those are not `even`, libsndfile does not read them all.
    """

    data: bytes
    present: int
    missing: int
    samples: int | None = None
    even: bool = True


def settle_sizes(data: bytes) -> Settled | None:
    """The file with the size of its sound as it is, without tags around it; None: it ends before its sound does.

    A size that a header names, and be it wrong, is not made larger; one that it leaves open is all that follows.
    Raises MediaError where the bytes are no sound: what libsndfile does not know by its first bytes makes it look for a
    resource fork, which for bytes in memory it seeks in the working folder (`._`, `.AppleDouble/`).
    """
    data = data[after_id3(data) :]
    if data[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _wave(data)
    if data[:4] == b"FORM":
        return _aiff(data)
    if data[:4] == b".snd":
        return _au(data)
    if data[:4] in (b"fLaC", b"OggS"):
        return Settled(data, len(data), 0)
    return _mpeg(data)


def _no_sound() -> MediaError:
    return MediaError("undecodable", "The bytes are not a sound in a format that is expected.")


def _mpeg(data: bytes) -> Settled | None:
    """An MPEG sound behind a tag of our own, without which libsndfile does not know it by its first bytes."""
    counted = count_frames(data)
    if counted is None:
        if len(data) >= 4 and not may_be_frame(data):
            raise _no_sound()
        return Settled(_TAG + data, len(data), 0) if len(data) >= 4 else None
    if counted.cut and not counted.said:
        return None
    sound = b"".join([_TAG, *(data[run] for run in counted.runs)])
    return Settled(sound, len(sound), 0, None if counted.said else counted.samples, counted.even)


def _wave(data: bytes) -> Settled | None:
    if not b"WAVE".startswith(data[8:12]):
        raise _no_sound()
    order = ">" if data[:4] == b"RIFX" else "<"
    fixed, at, long_size = bytearray(data), 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int(struct.unpack_from(f"{order}I", data, at + 4)[0])
        if name == b"ds64" and at + 24 <= len(data):
            long_size = int(struct.unpack_from("<Q", data, at + 16)[0])
            fixed[at : at + 4] = b"JUNK"
        elif name == b"data":
            claimed = long_size if long_size is not None and size == 0xFFFFFFFF else size
            present = len(data) - at - 8
            if claimed >= _UNKNOWN or (claimed == 0 and not _chunks_follow(data, at + 8, order)):
                claimed = present
            struct.pack_into(f"{order}I", fixed, at + 4, min(claimed, present))
            if long_size is not None or data[:4] in (b"RF64", b"BW64"):  # what is in memory needs no long sizes
                fixed[:4] = b"RIFF"
            return Settled(bytes(fixed), min(claimed, present), max(0, claimed - present))
        at += 8 + size + (size & 1)
    return None


def _chunks_follow(data: bytes, at: int, order: str) -> bool:
    """Whether what follows is a chain of chunks that ends with the file: then a sound of no bytes is meant so."""
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int(struct.unpack_from(f"{order}I", data, at + 4)[0])
        if not all(0x20 <= letter < 0x7F for letter in name):
            return False
        at += 8 + size + (size & 1)
    return at - len(data) in (0, 1)


def _aiff(data: bytes) -> Settled | None:
    fixed, at, common = bytearray(data), 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int(struct.unpack_from(">I", data, at + 4)[0])
        if name == b"COMM" and at + 16 <= len(data):
            common = at + 8
        elif name == b"SSND":
            present, claimed = len(data) - at - 8, size
            # Eight bytes of the chunk are no sound.
            if claimed >= _UNKNOWN or (claimed in (0, 8) and not _chunks_follow(data, at + 8 + claimed, ">")):
                claimed = present
                if common is not None:
                    channels, _, bits = struct.unpack_from(">HIH", data, common)
                    frames = max(0, present - 8) // max(1, channels * -(-bits // 8))
                    struct.pack_into(">I", fixed, common + 2, frames)
            struct.pack_into(">I", fixed, at + 4, min(claimed, present))
            return Settled(bytes(fixed), min(claimed, present), max(0, claimed - present))
        at += 8 + size + (size & 1)
    return None


def _au(data: bytes) -> Settled | None:
    if len(data) < 24:
        return None
    start, claimed = struct.unpack_from(">II", data, 4)
    present = max(0, len(data) - start)
    if claimed >= _UNKNOWN or claimed == 0:
        claimed = present
    fixed = bytearray(data)
    struct.pack_into(">I", fixed, 8, min(claimed, present))
    return Settled(bytes(fixed), min(claimed, present), max(0, claimed - present))
