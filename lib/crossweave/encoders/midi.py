"""Symbolic music without weights: which notes, how long, how loud, on which instruments, in which tempo.

All blocks are shares or scaled to about one. Times are in quarter notes (beats) unless seconds are named.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from crossweave.encoders.base import Encoder, EncoderSettings, FloatArray
from crossweave.encoders.midi_files import Score, read_score

_FAMILIES = 16  # of 8 General MIDI programs each
_INTERVALS = 13  # 0 to 11 semitones, and an octave or more
_LENGTHS = (0.0, 0.1875, 0.375, 0.75, 1.5, 3.0, float("inf"))  # beats: sixteenth, eighth, quarter, half, whole, longer
_METERS = ((4, 4), (3, 4), (2, 4), (6, 8))
_TEMPO = 500_000  # microseconds a beat, where the file says nothing (120 a minute)


class MidiSettings(EncoderSettings):
    """Settings of the MIDI encoder; its size is fixed."""

    max_bytes: int = Field(4_000_000, ge=1, description="Bytes; longer files are refused: long pieces have 0.2 MB.")
    max_events: int = Field(500_000, ge=1, description="Events of all tracks; more are refused.")


class MidiEncoder(Encoder):
    """The bytes of a Standard MIDI File become a vector [73].

    Pitch classes by duration (12), pitch mean, deviation, least and greatest (4), melodic intervals (13), note lengths
    (6), velocity mean and deviation (2), notes a beat and a second, polyphony (3), instrument families and drums by
    duration (17), tempo mean, least, greatest, and changes (4), meters (5: 4/4, 3/4, 2/4, 6/8, other), duration,
    channels-with-notes share and note count on log scales (3), and pitch-class entropy, repetition of pitches, drums
    only, and rests (4). Failures: those of `midi_files.read_score`.
    """

    name = "midi"
    code_version = 2
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
