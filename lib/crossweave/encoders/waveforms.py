"""From decoded channels to the one waveform that encoders take.

Letters in shapes: S samples, C channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossweave.encoders.refusals import MediaError, refuse_non_finite, refuse_silent
from crossweave.encoders.resampling import resample

_MOST_LOST = 0.5  # of the power that the mean would have if the channels had nothing to do with each other


def waveform(wave_SC: npt.NDArray[np.float32], rate: int, sample_rate: int, what: str) -> npt.NDArray[np.float32]:
    """One channel float32 [S] at `sample_rate` Hz. Raises MediaError: empty, non_finite, silent."""
    if not len(wave_SC):
        raise MediaError("empty", f"The {what} has no samples.")
    refuse_non_finite(wave_SC, what)
    mono = to_mono(wave_SC)
    refuse_silent(mono, what)
    return resample(mono, rate, sample_rate)


def to_mono(wave_SC: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean of the channels, float32 [S]; the loudest of them where the mean would cancel most of the sound.

    Channels in opposite phase (a swapped wire, a "wide" effect) have a mean of nearly nothing. The mean of C unrelated
    channels has the power Σ Pᵢ / C²; below half of that (of two equally loud channels: a correlation below −0.5)
    the mean is no longer what is heard.
    """
    if wave_SC.shape[1] == 1:
        return np.ascontiguousarray(wave_SC[:, 0])
    mono: npt.NDArray[np.float32] = wave_SC.mean(axis=1, dtype=np.float32)
    power_C = wave_SC.var(axis=0, dtype=np.float64)  # a constant offset is not heard
    if mono.var(dtype=np.float64) < _MOST_LOST * power_C.sum() / len(power_C) ** 2:
        return np.ascontiguousarray(wave_SC[:, int(power_C.argmax())])
    return mono
