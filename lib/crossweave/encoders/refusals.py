"""Why a picture, sound or video has no vector, and the checks that all of their decoders share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from crossweave.encoders.base import BadValueError

_SILENCE = 1e-5  # of full scale, −100 dB
_MAX_CHANNELS = 16
_SAMPLE_RATES = (2_000, 768_000)  # Hz; beyond lie only crafted headers
_FEWEST_BYTES = 500  # a second, 4 kbit/s: less than any codec of speech takes


class MediaError(BadValueError):
    """A picture, sound or video cannot be decoded, or must not be."""


def require_bytes(data: Any, what: str) -> bytes:
    """The bytes of a medium. Raises MediaError where it is of another type, or empty."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise MediaError("undecodable", f"A {type(data).__name__} came where a {what}'s bytes were expected.")
    if not data:
        raise MediaError("empty", f"The {what} has no bytes.")
    return bytes(data)


def refuse_odd_sound(rate: int, channels: int) -> None:
    """Raise MediaError where a sound has a rate in Hz, or channels, that no sound has."""
    if not _SAMPLE_RATES[0] <= rate <= _SAMPLE_RATES[1]:
        raise MediaError("undecodable", f"The sound has {rate} Hz, which is not expected.")
    if not 1 <= channels <= _MAX_CHANNELS:
        raise MediaError("undecodable", f"The sound has {channels} channels; at most {_MAX_CHANNELS} expected.")


def refuse_non_finite(wave: npt.NDArray[np.float32], what: str) -> None:
    """Raise MediaError where a sample is NaN or infinite."""
    if not np.isfinite(wave).all():
        raise MediaError("non_finite", f"The {what} holds samples that are NaN or infinite.")


def refuse_silent(wave: npt.NDArray[np.float32], what: str) -> None:
    """Raise MediaError where there is nothing to hear."""
    if float(np.abs(wave).max()) < _SILENCE:
        raise MediaError("silent", f"Every sample of the {what} is (nearly) zero.")


def refuse_long(seconds: float, most: float, what: str) -> None:
    """Raise MediaError where a sound or video lasts longer than `most` seconds."""
    if seconds > most:
        raise MediaError("too_long", f"The {what} lasts {seconds:.0f} s; at most {most:.0f} s expected.")


def is_believed(seconds: float, most: float, size: int) -> bool:
    """Whether a header's length decides: one beyond `most` does only where the file has the bytes for it.

    Where it does not, a header is torn or made up, and the length is to be counted.
    """
    return seconds <= most or size >= _FEWEST_BYTES * seconds
