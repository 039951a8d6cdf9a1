"""What every sound encoder shares: its limits, decoding, and the door for waveforms that are decoded already.

Letters in shapes: S samples.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, final

from pydantic import Field

from crossweave.encoders.base import Encoder, EncoderSettings, FloatArray
from crossweave.encoders.media import MediaError, decode_audio


class AudioSettings(EncoderSettings):
    """Settings of every sound encoder."""

    max_seconds: float = Field(30.0, gt=0, description="Seconds kept; the rest of a longer clip is cut off.")
    refuse_seconds: float = Field(3600.0, gt=0, description="Seconds; longer clips are refused, as no sample is that.")


class AudioEncoder(Encoder):
    """A sound's bytes in; a subclass gives `sample_rate`, `min_samples`, `_dim` and `_encode`.

    Failures: those of `media.decode_audio`, and too_short (less than `min_samples`).
    """

    Settings: ClassVar[type[EncoderSettings]] = AudioSettings
    isolated = True
    window = 64
    decoder_version = 2  # MP3s whose header says no length, or too little, are read whole
    neutral_settings: ClassVar[frozenset[str]] = frozenset({"refuse_seconds"})
    settings: AudioSettings

    @property
    @abc.abstractmethod
    def sample_rate(self) -> int:
        """Hz that waveforms must have; others are resampled to it."""

    @property
    @abc.abstractmethod
    def min_samples(self) -> int:
        """Samples at `sample_rate` below which a sound cannot be encoded."""

    def warm_up(self) -> None:
        """Read what the model's files say of its sounds."""
        _ = self.sample_rate, self.min_samples

    @final
    def _prepare_one(self, value: Any) -> Any:
        settings = self.settings
        return self.prepare_wave(decode_audio(value, self.sample_rate, settings.max_seconds, settings.refuse_seconds))

    @final
    def prepare_wave(self, wave_S: FloatArray) -> Any:
        """One example of a mono waveform at `sample_rate`. Raises MediaError where it is too short."""
        if len(wave_S) < self.min_samples:
            raise MediaError(
                "too_short", f"The sound has {len(wave_S)} samples; at least {self.min_samples} were expected."
            )
        return self._prepare_wave(wave_S)

    def _prepare_wave(self, wave_S: FloatArray) -> Any:
        """One example of a waveform, with numpy only: it may run in a process without torch."""
        return wave_S
