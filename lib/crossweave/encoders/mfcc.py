"""Sounds without weights: mel-frequency cepstral coefficients and how they move.

Letters in shapes: S samples, T frames, F frequencies, M mel bands, C coefficients.
"""

from __future__ import annotations

import functools
import math
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.mel import MelEncoder, MelSettings
from crossweave.encoders.spectra import mel_decibels, slopes


class MfccSettings(MelSettings):
    """Settings of the MFCC encoder."""

    coefficients: int = Field(20, ge=2, le=128, description="Cepstral coefficients kept of each frame.")

    @model_validator(mode="after")
    def _sizes_fit(self) -> MfccSettings:
        if self.coefficients > self.mel_bands:
            raise ValueError(f"coefficients ({self.coefficients}) must not exceed mel_bands ({self.mel_bands})")
        return self


class MfccEncoder(MelEncoder):
    """A sound's bytes become a vector [4 · coefficients]: over time, each coefficient's mean and
    deviation, then its slope's mean and deviation.

    Davis & Mermelstein 1980, computed as torchaudio's MFCC does by default (periodic Hann window, reflected edges,
    power spectrum, HTK mel filters without norm, decibels within 80 of the clip's peak, orthonormal DCT-II).
    The first coefficient, the level, is then divided by √mel_bands, which makes it mean decibels; otherwise it
    would drown the rest. Failures: those of `media.decode_audio`, and too_short (less than one frame).
    """

    name = "mfcc"
    Settings: ClassVar[type[EncoderSettings]] = MfccSettings
    settings: MfccSettings

    def _dim(self) -> int:
        return 4 * self.settings.coefficients

    def _describe(self, wave: torch.Tensor) -> torch.Tensor:
        settings = self.settings
        mfcc_TC = compute_mfcc(
            wave,
            settings.sample_rate,
            settings.coefficients,
            settings.mel_bands,
            settings.frame_samples,
            settings.hop_samples,
        )
        mfcc_TC[:, 0] /= math.sqrt(settings.mel_bands)
        slope_TC = slopes(mfcc_TC)
        return torch.cat(
            [part for moving in (mfcc_TC, slope_TC) for part in (moving.mean(0), moving.std(0, correction=0))]
        )


def compute_mfcc(
    wave: torch.Tensor, sample_rate: int, coefficients: int, mel_bands: int, frame_samples: int, hop_samples: int
) -> torch.Tensor:
    """MFCC float32 [T, C] of a waveform [S] with S ≥ frame_samples; T = S // hop_samples + 1."""
    decibels_TM = mel_decibels(wave, sample_rate, mel_bands, frame_samples, hop_samples)
    return decibels_TM @ _cosines(mel_bands, coefficients).to(wave.device)


@functools.lru_cache(maxsize=4)
def _cosines(mel_bands: int, coefficients: int) -> torch.Tensor:
    """The orthonormal DCT-II [M, C]."""
    dct_MC = np.cos(np.pi / mel_bands * (np.arange(mel_bands)[:, None] + 0.5) * np.arange(coefficients))
    dct_MC *= math.sqrt(2 / mel_bands)
    dct_MC[:, 0] /= math.sqrt(2)
    return torch.from_numpy(dct_MC).float()
