"""The shop's sounds: short synthesised jingles whose scale, timbre and tempo follow the mood."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soundfile

from crossweave.demo.taste import MOODS

SAMPLE_RATE = 16_000

SoundFormat = Literal["WAV", "FLAC"]  # not OGG: its stream serial is random, and the shop's bytes must repeat


@dataclass(frozen=True)
class _Voice:
    """How one mood sounds."""

    scale: tuple[int, ...]
    """Semitones above the root."""
    root: int
    """MIDI note of the root."""
    notes_per_second: float
    partials: tuple[float, ...]
    """Strength of each harmonic."""
    decay: float
    """How fast a note dies away, per second."""
    attack: float
    """Seconds until a note is at full strength."""
    vibrato: float
    """Depth of the vibrato, as a fraction of the pitch."""


_VOICES: dict[str, _Voice] = {
    "calm": _Voice((0, 2, 4, 7, 9), 57, 2.5, (1.0, 0.15), 2.5, 0.06, 0.0),
    "playful": _Voice((0, 2, 4, 5, 7, 9, 11, 12), 69, 9.0, (1.0, 0.0, 0.45, 0.0, 0.25), 12.0, 0.004, 0.0),
    "wistful": _Voice((0, 2, 3, 7, 8), 52, 3.0, (1.0, 0.5, 0.12, 0.2), 3.0, 0.09, 0.012),
    "bold": _Voice((0, 5, 7, 12), 45, 6.0, (1.0, 0.8, 0.65, 0.5, 0.4, 0.32, 0.26, 0.2), 5.0, 0.008, 0.0),
    "dreamy": _Voice((0, 2, 4, 6, 8, 10), 64, 4.0, (1.0, 0.0, 0.0, 0.35, 0.0, 0.0, 0.2), 1.6, 0.03, 0.006),
}


def play(mood: int, rng: np.random.Generator) -> np.ndarray:
    """Return a mono jingle of 0.6 to 1.2 seconds in the voice of the mood, as float samples within ±1."""
    voice = _VOICES[MOODS[mood]]
    seconds = rng.uniform(0.6, 1.2)
    samples = np.zeros(int(seconds * SAMPLE_RATE))
    tempo = voice.notes_per_second * rng.uniform(0.85, 1.15)
    root = voice.root + int(rng.integers(-3, 4))
    for start in np.arange(0.0, seconds - 0.1, 1.0 / tempo):
        first = int(start * SAMPLE_RATE)
        pitch = 440.0 * 2.0 ** ((root + int(rng.choice(voice.scale)) - 69) / 12)
        samples[first:] += rng.uniform(0.6, 1.0) * _note(voice, pitch, len(samples) - first)
    samples += rng.normal(scale=0.01 * np.abs(samples).max(), size=len(samples))
    fade = np.minimum(1.0, np.arange(len(samples))[::-1] / (0.03 * SAMPLE_RATE))  # no click at the end
    return samples * fade * rng.uniform(0.5, 0.9) / np.abs(samples).max()


def _note(voice: _Voice, pitch: float, length: int) -> np.ndarray:
    time = np.arange(length) / SAMPLE_RATE
    phase = 2 * np.pi * pitch * time
    if voice.vibrato:
        phase = phase + voice.vibrato * pitch / 5.5 * np.sin(2 * np.pi * 5.5 * time)
    tone = np.zeros(length)
    for number, strength in enumerate(voice.partials, start=1):
        if strength and number * pitch < SAMPLE_RATE / 2:  # a partial above half the rate would fold back
            tone += strength * np.sin(number * phase)
    return tone * np.minimum(1.0, time / voice.attack) * np.exp(-voice.decay * time)


def encode_sound(samples: np.ndarray, sound_format: SoundFormat) -> bytes:
    """Return the samples as a 16-bit mono sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format=sound_format, subtype="PCM_16")
    return buffer.getvalue()
