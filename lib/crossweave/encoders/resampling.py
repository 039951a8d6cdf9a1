"""Change of sample rate by a windowed sinc, evaluated only at the output's instants (polyphase)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99  # of the lower Nyquist frequency
_CHUNK = 1 << 15  # output samples filtered at a time: bounds the memory of the gathered windows


def resample(wave: npt.NDArray[np.float32], rate_in: int, rate_out: int) -> npt.NDArray[np.float32]:
    """`wave` float32 [samples] at `rate_in` Hz as float32 [ceil(samples · rate_out / rate_in)] at `rate_out` Hz.

    Band-limited interpolation with a Hann-windowed sinc (Smith, Digital Audio Resampling), six zero crossings a
    side, rolled off at 0.99 of the lower Nyquist frequency: the filter of torchaudio's default.
    """
    if rate_in == rate_out:
        return wave
    divisor = math.gcd(rate_in, rate_out)
    step, phases = rate_in // divisor, rate_out // divisor
    kernel_PK, offset_P = _kernel(step, phases)
    taps = kernel_PK.shape[1]
    length = -(-len(wave) * phases // step)
    half = taps // 2
    padded = np.concatenate([np.zeros(half, np.float32), wave, np.zeros(taps + step, np.float32)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    out = np.empty(length, dtype=np.float32)
    for start in range(0, length, _CHUNK):
        index = np.arange(start, min(start + _CHUNK, length), dtype=np.int64)
        block, phase = np.divmod(index, phases)
        out[index] = np.einsum("nk,nk->n", windows[block * step + offset_P[phase]], kernel_PK[phase])
    return out


def _kernel(step: int, phases: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The filter taps of each output phase [phases, taps], and the input sample each phase is centred on."""
    cutoff = min(step, phases) * _ROLLOFF / step  # cycles per input sample, doubled
    half = math.ceil(_ZERO_CROSSINGS / cutoff)
    instant_P = np.arange(phases, dtype=np.float64) * step / phases  # in input samples
    offset_P = np.floor(instant_P).astype(np.int64)
    tap_K = np.arange(-half, half + 1)
    t_PK = ((offset_P - instant_P)[:, None] + tap_K[None, :]) * cutoff
    t_PK = t_PK.clip(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window_PK = np.cos(t_PK * np.pi / _ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(t_PK) * window_PK * cutoff).astype(np.float32), offset_P
