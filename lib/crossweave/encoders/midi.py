"""Symbolic music without weights: which notes, how long, how loud, on which instruments, in which tempo.

All blocks are shares or scaled to about one. Times are in quarter notes (beats) unless seconds are named.
"""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mido  # type: ignore[import-untyped]
import numpy as np
from pydantic import Field

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.encoders.media import require_bytes

_DRUMS = 9  # General MIDI's channel 10, counted from 0
_FAMILIES = 16  # of 8 General MIDI programs each
_INTERVALS = 13  # 0 to 11 semitones, and an octave or more
_LENGTHS = (0.0, 0.1875, 0.375, 0.75, 1.5, 3.0, float("inf"))  # beats: sixteenth, eighth, quarter, half, whole, longer
_METERS = ((4, 4), (3, 4), (2, 4), (6, 8))
_TEMPO = 500_000  # microseconds a beat, where the file says nothing (120 a minute)
_LONGEST_TICKS = 1 << 28


class MidiSettings(EncoderSettings):
    """Settings of the MIDI encoder; its size is fixed."""

    max_bytes: int = Field(4_000_000, ge=1, description="Bytes; longer files are refused: long pieces have 0.2 MB.")
    max_events: int = Field(500_000, ge=1, description="Events of all tracks; more are refused.")


@dataclass
class Score:
    """A file's notes as (pitch, start, length in ticks, velocity, program or −1 for drums), and its clock."""

    ticks_a_beat: int
    notes: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    tempi: list[tuple[int, int]] = field(default_factory=list)
    meters: list[tuple[int, int]] = field(default_factory=list)


class MidiEncoder(Encoder):
    """The bytes of a Standard MIDI File become a vector [73].

    Pitch classes by duration (12), pitch mean, deviation, least and greatest (4), melodic intervals (13), note lengths
    (6), velocity mean and deviation (2), notes a beat and a second, polyphony (3), instrument families and drums by
    duration (17), tempo mean, least, greatest, and changes (4), meters (5: 4/4, 3/4, 2/4, 6/8, other), duration,
    channels-with-notes share and note count on log scales (3), and pitch-class entropy, repetition of pitches, drums
    only, and rests (4). Failures: empty, wrong_format, truncated, undecodable, too_long, no_notes.
    """

    name = "midi"
    Settings: ClassVar[type[EncoderSettings]] = MidiSettings
    neutral_settings = frozenset({"max_bytes", "max_events"})
    isolated = True
    settings: MidiSettings

    def _dim(self) -> int:
        return 73

    def _prepare_one(self, value: Any) -> FloatArray:
        return describe(read_score(value, self.settings.max_bytes, self.settings.max_events))

    def _encode(self, examples: list[FloatArray]) -> FloatArray:
        return np.stack(examples)


def read_score(data: Any, max_bytes: int, max_events: int) -> Score:
    """The notes of a Standard MIDI File; one never ended lasts to the end of its track. Raises BadValueError."""
    data = require_bytes(data, "MIDI file")
    if not data.startswith(b"MThd"):
        raise BadValueError("wrong_format", "The bytes are not a Standard MIDI File.")
    if len(data) > max_bytes:
        raise BadValueError("too_long", f"The file has {len(data)} bytes; at most {max_bytes} were expected.")
    try:
        parsed = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except EOFError as error:
        raise BadValueError("truncated", f"The file ends early, after {len(data)} bytes.") from error
    except Exception as error:  # mido raises whatever the bytes lead it to
        raise BadValueError("undecodable", f"The bytes cannot be read as MIDI ({type(error).__name__}).") from error
    if sum(map(len, parsed.tracks)) > max_events:
        raise BadValueError("too_long", f"The file has more than {max_events} events.")
    if not 1 <= parsed.ticks_per_beat < 1 << 15:
        raise BadValueError("undecodable", "The file counts time in film frames or not at all; beats were expected.")
    score = Score(parsed.ticks_per_beat)
    for track in parsed.tracks:
        _read_track(track, score)
    if not score.notes:
        raise BadValueError("no_notes", "The file holds no note.")
    return score


def _read_track(track: Any, score: Score) -> None:
    now = 0
    programs = [0] * 16
    open_notes: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for message in track:
        now += int(message.time)
        if now > _LONGEST_TICKS:
            raise BadValueError("undecodable", "The file's clock runs beyond anything that could be music.")
        if message.type == "set_tempo":
            score.tempi.append((now, message.tempo))
        elif message.type == "time_signature":
            score.meters.append((message.numerator, message.denominator))
        elif message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on" and message.velocity:
            program = -1 if message.channel == _DRUMS else programs[message.channel]
            open_notes[message.channel, message.note].append((now, message.velocity, program))
        elif message.type in ("note_on", "note_off") and open_notes[message.channel, message.note]:
            start, velocity, program = open_notes[message.channel, message.note].pop(0)
            score.notes.append((message.note, start, now - start, velocity, program))
    for (_, pitch), hanging in open_notes.items():
        score.notes += [(pitch, start, now - start, velocity, program) for start, velocity, program in hanging]


def describe(score: Score) -> FloatArray:
    """The vector [73] of a score with at least one note."""
    notes = np.array(sorted(score.notes, key=lambda note: (note[1], note[0])), dtype=np.int64)
    pitch, start, ticks, velocity, program = notes.T
    beats = np.maximum(ticks, 1) / score.ticks_a_beat
    drums = program < 0
    tuned = pitch[~drums]
    end = int((start + ticks).max())
    total_beats = max((end - int(start.min())) / score.ticks_a_beat, 1 / 16)
    seconds = max(_seconds(score, end), 1e-3)
    classes = _shares(tuned % 12, 12, beats[~drums])
    family = np.where(drums, _FAMILIES, program // 8)
    bpm = np.array([60e6 / max(tempo, 1) for _, tempo in score.tempi] or [60e6 / _TEMPO]).clip(1, 1000)
    steps = np.abs(np.diff(tuned))
    meters = np.zeros(len(_METERS) + 1)
    for meter in score.meters or [(4, 4)]:
        meters[_METERS.index(meter) if meter in _METERS else -1] += 1
    sounding = _covered(start, ticks) / score.ticks_a_beat
    height = tuned if len(tuned) else np.array([60])
    parts = [
        classes,
        (np.array([height.mean(), height.min(), height.max()]) - 60) / 24,
        [height.std() / 12],
        _shares(np.minimum(steps, _INTERVALS - 1), _INTERVALS, np.ones(len(steps))),
        np.histogram(beats, bins=np.array(_LENGTHS))[0] / len(beats),
        [velocity.mean() / 127, velocity.std() / 32],
        [np.log1p(len(notes) / total_beats), np.log1p(len(notes) / seconds), np.log1p(beats.sum() / total_beats)],
        _shares(family, _FAMILIES + 1, beats),
        [bpm.mean() / 120, bpm.min() / 120, bpm.max() / 120, np.log1p(len(bpm) - 1)],
        meters / meters.sum(),
        [np.log1p(seconds) / 5, len(np.unique(family)) / (_FAMILIES + 1), np.log1p(len(notes)) / 8],
        [_entropy(classes), float((steps == 0).mean()) if len(steps) else 0.0, float(drums.all())],
        [max(0.0, 1 - sounding / total_beats)],
    ]
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])


def _shares(bins: Any, count: int, weights: Any) -> Any:
    histogram = np.bincount(bins, weights=weights, minlength=count)
    return histogram / max(histogram.sum(), 1e-12)


def _entropy(shares: Any) -> float:
    filled = shares[shares > 0]
    return float(-(filled * np.log(filled)).sum() / np.log(12))


def _covered(start: Any, ticks: Any) -> float:
    """Ticks in which at least one note sounds; notes come in the order of their starts."""
    covered, reach = 0, int(start[0])
    for begin, length in zip(start.tolist(), ticks.tolist(), strict=True):
        covered += max(0, begin + length - max(begin, reach))
        reach = max(reach, begin + length)
    return covered


def _seconds(score: Score, end: int) -> float:
    """Seconds from the file's start to the tick `end`, through its tempo changes."""
    changes = [(0, _TEMPO), *sorted(score.tempi), (end, 0)]
    return sum(_span(first, second, end) for first, second in itertools.pairwise(changes)) / score.ticks_a_beat / 1e6


def _span(first: tuple[int, int], second: tuple[int, int], end: int) -> float:
    return max(0, min(second[0], end) - first[0]) * first[1]
