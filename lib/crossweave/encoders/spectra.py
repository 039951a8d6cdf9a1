"""From a waveform to mel bands in decibels, shared by the encoders without weights.

Letters in shapes: S samples, T frames, F frequencies, M mel bands.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

_TOP_DB = 80.0
_DELTA_REACH = 2  # frames on each side of a slope


def mel_decibels(
    wave: torch.Tensor, sample_rate: int, mel_bands: int, frame_samples: int, hop_samples: int
) -> torch.Tensor:
    """Log-mel spectrogram [T, M] in decibels within 80 of the clip's peak, of a waveform [S] with S ≥ frame_samples.

    Periodic Hann window, reflected edges, power spectrum, HTK mel filters without norm, as torchaudio does by default;
    T = S // hop_samples + 1.
    """
    window, mel_FM = (table.to(wave.device) for table in _tables(sample_rate, mel_bands, frame_samples))
    half = frame_samples // 2
    # A fifth of the whole cheaper than torch's reflecting pad, which is made for batches of pictures.
    padded = torch.cat([wave[1 : half + 1].flip(0), wave, wave[-half - 1 : -1].flip(0)])
    frames_TF = torch.fft.rfft(padded.unfold(0, frame_samples, hop_samples) * window)
    power_TM = (frames_TF.real.square() + frames_TF.imag.square()) @ mel_FM
    decibels_TM = 10 * torch.log10(power_TM.clamp(min=1e-10))
    return torch.maximum(decibels_TM, decibels_TM.max() - _TOP_DB)


def slopes(track: torch.Tensor) -> torch.Tensor:
    """The slope a frame [T, C], by least squares over two frames on each side, the ends repeated."""
    padded = torch.cat([track[:1]] * _DELTA_REACH + [track] + [track[-1:]] * _DELTA_REACH)
    length = len(track)
    total = torch.zeros_like(track)
    for reach in range(1, _DELTA_REACH + 1):
        ahead = padded[_DELTA_REACH + reach : _DELTA_REACH + reach + length]
        behind = padded[_DELTA_REACH - reach : _DELTA_REACH - reach + length]
        total += reach * (ahead - behind)
    return total / (2 * sum(reach * reach for reach in range(1, _DELTA_REACH + 1)))


@functools.lru_cache(maxsize=4)
def _tables(sample_rate: int, mel_bands: int, frame_samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Window [frame] and mel filters [F, M]."""
    nyquist = sample_rate / 2
    frequencies_F = np.linspace(0, nyquist, frame_samples // 2 + 1)
    mels = np.linspace(0, 2595 * math.log10(1 + nyquist / 700), mel_bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    rising = (frequencies_F[:, None] - edges[None, :-2]) / np.diff(edges)[:-1]
    falling = (edges[None, 2:] - frequencies_F[:, None]) / np.diff(edges)[1:]
    mel_FM = np.clip(np.minimum(rising, falling), 0, None)
    return torch.hann_window(frame_samples), torch.from_numpy(mel_FM).float()
