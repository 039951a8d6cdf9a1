"""Standard MIDI Files, read for their notes: what music software forgives is forgiven here too.

Only notes, instruments, tempi and meters are looked at; any other event is passed over by its length, whatever it says
(a key signature with nine sharps is no reason to refuse a tune).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from crossweave.encoders.base import BadValueError
from crossweave.encoders.refusals import require_bytes

_DRUMS = 9  # General MIDI's channel 10, counted from 0
_LONGEST_TICKS = 1 << 28
_BEATS_A_SECOND = 2  # that a clock in film frames is read as: the tempo of a file that names none
_DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2, 0xF1: 1, 0xF2: 2, 0xF3: 1}
_END, _TEMPO, _METER = 0x2F, 0x51, 0x58


@dataclass
class Score:
    """A file's notes as (pitch, start, length in ticks, velocity, program or −1 for drums), and its clock."""

    ticks_a_beat: int
    notes: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    tempi: list[tuple[int, int]] = field(default_factory=list)
    meters: list[tuple[int, int]] = field(default_factory=list)


def read_score(data: Any, max_bytes: int, max_events: int) -> Score:
    """The notes of a Standard MIDI File, or of one inside a RIFF; one never ended lasts to the end of its track.

    Film frames (SMPTE) are read as two beats a second; a tempo of zero is no tempo. Raises BadValueError: empty,
    wrong_format, truncated, undecodable, too_long, no_notes.
    """
    data = require_bytes(data, "MIDI file")
    if data[:4] == b"RIFF" and data[8:16] == b"RMIDdata":
        data = data[20:]
    if not data.startswith(b"MThd"):
        raise BadValueError("wrong_format", "The bytes are not a Standard MIDI File.")
    if len(data) > max_bytes:
        raise BadValueError("too_long", f"The file has {len(data)} bytes; at most {max_bytes} were expected.")
    try:
        size, _, tracks, division = struct.unpack_from(">IHHH", data, 4)
        score = Score(_ticks_a_beat(division))
        at, left = 8 + size, max_events
        while tracks:
            name, size = struct.unpack_from(">4sI", data, at)
            at += 8
            if at + size > len(data):
                raise IndexError
            if name == b"MTrk":  # chunks of other names are to be passed over, says the standard
                left = _Track(data, at, at + size).read(score, left)
                tracks -= 1
            at += size
    except (IndexError, struct.error) as error:
        raise BadValueError("truncated", f"The file ends early, after {len(data)} bytes.") from error
    if division & 0x8000:
        score.tempi.clear()  # film frames last as long as they last
    if left < 0:
        raise BadValueError("too_long", f"The file has more than {max_events} events.")
    if not score.notes:
        raise BadValueError("no_notes", "The file holds no note.")
    return score


def _ticks_a_beat(division: int) -> int:
    if division & 0x8000:
        frames = 256 - (division >> 8)  # a second; 29 stands for 29.97
        division = frames * (division & 0xFF) // _BEATS_A_SECOND
    if not division:
        raise BadValueError("undecodable", "The file's clock has no ticks.")
    return division


class _Track:
    """One track: its events in order, each with the bytes that are its own."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end
        self._now = 0
        self._programs = [0] * 16
        self._open: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)

    def read(self, score: Score, most: int) -> int:
        """Add the track's notes to the score; how many events of `most` are left, below zero where it has more."""
        running = 0
        while self._at < self._end and most >= 0:
            self._now += self._number()
            if self._now > _LONGEST_TICKS:
                raise BadValueError("undecodable", "The file's clock runs beyond anything that could be music.")
            most -= 1
            status = self._data[self._at]
            if status < 0x80:  # running status: the last channel message's once more
                status = running
            else:
                self._at += 1
            if not status:
                raise BadValueError("undecodable", "A track begins in the middle of an event.")
            if status == 0xFF:
                if self._meta(score) == _END:
                    break
            elif status in (0xF0, 0xF7):
                self._bytes(self._number())
            else:
                running = status if status < 0xF0 else running
                self._message(
                    status, self._bytes(_DATA_BYTES.get(status if status >= 0xF0 else status & 0xF0, 0)), score
                )
        for (_, pitch), hanging in self._open.items():
            score.notes += [(pitch, start, self._now - start, loud, program) for start, loud, program in hanging]
        return most

    def _bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        self._at += count
        if self._at > self._end:
            raise BadValueError("undecodable", "An event runs beyond the end of its track.")
        return found

    def _number(self) -> int:
        value = 0
        while True:
            byte = self._bytes(1)[0]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value

    def _meta(self, score: Score) -> int:
        kind = self._bytes(1)[0]
        content = self._bytes(self._number())
        if kind == _TEMPO and len(content) >= 3 and any(content[:3]):
            score.tempi.append((self._now, int.from_bytes(content[:3], "big")))
        elif kind == _METER and len(content) >= 2:
            score.meters.append((content[0], 1 << min(content[1], 16)))
        return kind

    def _message(self, status: int, content: bytes, score: Score) -> None:
        kind, channel = status & 0xF0, status & 0x0F
        if kind == 0xC0:
            self._programs[channel] = content[0] & 0x7F
        elif kind in (0x80, 0x90):
            pitch, velocity = content[0] & 0x7F, min(content[1], 127)
            sounding = self._open[channel, pitch]
            if kind == 0x90 and velocity:
                sounding.append((self._now, velocity, -1 if channel == _DRUMS else self._programs[channel]))
            elif sounding:
                start, loud, program = sounding.pop(0)
                score.notes.append((pitch, start, self._now - start, loud, program))
