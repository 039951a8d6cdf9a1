"""Sounds without weights: how loud each mel band is, how much it varies, and at which rhythm.

Letters in shapes: S samples, T frames, M mel bands, Q bands of rhythm.
"""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from pydantic import model_validator

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.mel import MelEncoder, MelSettings
from crossweave.encoders.spectra import mel_decibels, slopes

_RHYTHM_EDGES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # Hz: from slow swells to roughness
_SPREAD = (0.1, 0.9)  # quantiles of a band's level: how quiet and how loud it gets
_DECIBELS = 20.0  # a unit of the vector; bands differ by a few tens of decibels


class SpectrogramSettings(MelSettings):
    """Settings of the spectrogram encoder."""

    @model_validator(mode="after")
    def _frames_are_fast_enough(self) -> SpectrogramSettings:
        if self.sample_rate / self.hop_samples < 2 * _RHYTHM_EDGES[-1]:
            raise ValueError(f"hop_samples must leave at least {2 * _RHYTHM_EDGES[-1]:.0f} frames a second")
        return self


class SpectrogramEncoder(MelEncoder):
    """A sound's bytes become a vector [5 · mel_bands + 4 · 5] of log-mel statistics.

    Of each band over time, in units of 20 dB: mean (less the clip's mean level, which is kept once), deviation, 10 %
    and 90 % quantiles around the mean, and the slope's deviation; then for each quarter of the bands the shares of
    its level's power spectrum between 0–1, 1–2, 2–4, 4–8 and 8–16 Hz (temporal modulation; Chi, Ru & Shamma 2005).
    Failures: those of `media.decode_audio`, and too_short (less than one frame).
    """

    name = "spectrogram"
    Settings: ClassVar[type[EncoderSettings]] = SpectrogramSettings
    settings: SpectrogramSettings

    def _dim(self) -> int:
        return 5 * self.settings.mel_bands + 4 * (len(_RHYTHM_EDGES) - 1)

    def _describe(self, wave_S: torch.Tensor) -> torch.Tensor:
        settings = self.settings
        decibels_TM = mel_decibels(
            wave_S, settings.sample_rate, settings.mel_bands, settings.frame_samples, settings.hop_samples
        )
        levels_TM = decibels_TM / _DECIBELS
        mean_M = levels_TM.mean(0)
        low_M, high_M = torch.quantile(levels_TM, torch.tensor(_SPREAD, device=levels_TM.device), dim=0)
        shape_M = mean_M - mean_M.mean()
        shape_M[0] += mean_M.mean()  # the level is kept once, not in every band
        parts = [shape_M, levels_TM.std(0, correction=0), low_M - mean_M, high_M - mean_M]
        return torch.cat([*parts, slopes(levels_TM).std(0, correction=0), self._rhythm(levels_TM)])

    def _rhythm(self, levels_TM: torch.Tensor) -> torch.Tensor:
        """For each quarter of the bands the shares [Q] of its level's power by frequency, 0 for a steady sound."""
        quarters_T4 = torch.stack([part.mean(1) for part in levels_TM.tensor_split(4, dim=1)], dim=1)
        power = torch.fft.rfft(quarters_T4 - quarters_T4.mean(0), dim=0).abs().square()
        rate = self.settings.sample_rate / self.settings.hop_samples
        hertz = torch.linspace(0, rate / 2, len(power), device=power.device)
        total_4 = power.sum(0).clamp(min=1e-6)
        bands = itertools.pairwise(_RHYTHM_EDGES)
        shares = [power[(hertz > low) & (hertz <= high)].sum(0) / total_4 for low, high in bands]
        return torch.stack(shares, dim=1).flatten()
