"""What the sound encoders on mel bands share: how frames are cut, and clips described one by one.

Letters in shapes: S samples, T frames, M mel bands, D features.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from pydantic import Field

from crossweave.encoders.base import EncoderSettings, FloatArray
from crossweave.encoders.sounds import AudioEncoder, AudioSettings


class MelSettings(AudioSettings):
    """Settings of every sound encoder on mel bands."""

    sample_rate: int = Field(16_000, ge=2_000, le=96_000, description="Hz; 16 kHz keeps speech and most timbre.")
    mel_bands: int = Field(64, ge=2, le=256, description="Bands of the mel filter bank.")
    frame_samples: int = Field(400, ge=16, le=8192, description="Samples a frame; 400 are 25 ms at 16 kHz.")
    hop_samples: int = Field(160, ge=1, description="Samples between two frames' starts; 160 are 10 ms at 16 kHz.")


class MelEncoder(AudioEncoder):
    """A subclass gives `_describe` and `_dim`.

    Failures: those of `media.decode_audio`, and too_short (less than one frame).
    """

    Settings: ClassVar[type[EncoderSettings]] = MelSettings
    settings: MelSettings

    @property
    def batch_budget(self) -> int:
        """Clips of one call; they are encoded one by one, which is faster on a CPU than padding them."""
        return 32

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.settings.sample_rate

    @property
    def min_samples(self) -> int:
        """One frame."""
        return self.settings.frame_samples

    def _load(self, device: str) -> None:
        self._device = torch.device(device)

    def _encode(self, examples: list[FloatArray]) -> FloatArray:
        with torch.inference_mode():
            rows = [self._describe(torch.from_numpy(wave).to(self._device)) for wave in examples]
            return torch.stack(rows).cpu().numpy()

    @abc.abstractmethod
    def _describe(self, wave_S: torch.Tensor) -> torch.Tensor:
        """The vector [D] of a waveform [S]."""
