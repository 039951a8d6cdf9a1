"""Pictures and sounds from bytes that anyone may have made.

Every refusal is a MediaError with a reason: empty, truncated, undecodable, wrong_format, too_many_pixels for
pictures; empty, truncated, undecodable, silent, non_finite, too_long, no_sound for sounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from crossweave.encoders.containers import is_sound_container, read_track
from crossweave.encoders.refusals import MediaError, require_bytes
from crossweave.encoders.sound_files import is_sound_file, read_sound_file
from crossweave.encoders.stills import decode_image
from crossweave.encoders.waveforms import waveform

__all__ = ["MediaError", "decode_audio", "decode_image"]


def decode_audio(
    data: Any, sample_rate: int, max_seconds: float, refuse_seconds: float = 3600.0
) -> npt.NDArray[np.float32]:
    """A mono waveform float32 [samples] in [−1, 1] at `sample_rate` Hz from the bytes of a sound.

    WAV (RF64, BW64), FLAC, OGG (Vorbis, Opus), MP3, AIFF and AU; what FFmpeg reads of M4A, MP4, MOV, 3GP, WebM, MKV,
    AAC, WMA, CAF and AMR. Channels are averaged, see `waveforms.to_mono`. Only the first `max_seconds` are decoded:
    the rest of a longer clip is cut off. One of more than `refuse_seconds` is refused as too_long. Raises MediaError.
    """
    data = require_bytes(data, "sound")
    found = None
    if is_sound_file(data):
        found = read_sound_file(data, max_seconds, refuse_seconds)
    elif not is_sound_container(data):
        raise MediaError(
            "undecodable",
            "The bytes are not WAV, FLAC, OGG, MP3, AIFF, AU, M4A, MP4, MKV, WebM, AAC, WMA, CAF or AMR, the formats "
            "expected.",
        )
    wave, rate = found or read_track(data, "sound", max_seconds, refuse_seconds)
    return waveform(wave, rate, sample_rate, "sound")
