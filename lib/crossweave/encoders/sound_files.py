"""Reads WAV, FLAC, OGG, MP3, AIFF and AU through libsndfile.

Letters in shapes: S samples, C channels.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile

from crossweave.encoders.container_headers import is_adts
from crossweave.encoders.containers import read_track
from crossweave.encoders.refusals import MediaError, is_believed, refuse_long, refuse_odd_sound
from crossweave.encoders.sound_headers import settle_sizes

_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF", "AU")
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd")
_MP3_FRAME = 1152  # samples; encoders disagree by about one frame on what the header should count
_SLACK = 0.02  # seconds that a header may count too many: less than a window of any spectrum
_NO_MEMORY = 17  # libsndfile's SFE_MALLOC_FAILED


def is_sound_file(data: bytes) -> bool:
    """Whether the bytes begin as a format of this module does."""
    if is_adts(data):
        return False
    return data.startswith(_MAGIC) or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")


def read_sound_file(
    data: bytes, max_seconds: float, refuse_seconds: float
) -> tuple[npt.NDArray[np.float32], int] | None:
    """The first `max_seconds` as float32 [S, C], and their rate in Hz; None: its length is to be counted.

    libsndfile cannot read without a length: FLAC from a pipe has none, nor has an MP3 whose headers are torn. Raises
    MediaError.
    """
    settled = settle_sizes(data)
    ends_early = MediaError("truncated", f"The sound ends early, after {len(data)} bytes.")
    if settled is None:
        raise ends_early
    data = settled.data
    stream = io.BytesIO(data)
    counted = settled.samples
    try:
        with soundfile.SoundFile(stream) as sound:
            rate, frames, form = int(sound.samplerate), int(sound.frames), str(sound.format)
            refuse_odd_sound(rate, int(sound.channels))
            if form not in _FORMATS:
                raise MediaError("undecodable", f"The sound is {form}, which is not expected.")
            if form == "OGG" and not frames:
                raise ends_early
            if settled.missing * frames > _SLACK * rate * settled.present:
                raise ends_early
            if counted is None and not is_believed(frames / rate, refuse_seconds, len(data)):
                return None
            length = frames if counted is None else counted
            refuse_long(length / rate, refuse_seconds, "sound")
            wanted = min(length, int(max_seconds * rate))
            if wanted > frames or not settled.even:
                return read_track(data, "sound", max_seconds, refuse_seconds, counted=True)
            # In one go: between two reads soundfile seeks, after which an MP3's first samples differ.
            wave: npt.NDArray[np.float32] = sound.read(wanted, dtype="float32", always_2d=True)
            if len(wave) < wanted - (_MP3_FRAME if form == "MP3" else 0):
                raise MediaError("truncated", f"The sound ends after {len(wave)} of {wanted} samples.")
            return wave, rate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        code = getattr(error, "code", type(error).__name__)  # the text holds an object's address
        if code == _NO_MEMORY:
            raise MemoryError from error
        if stream.tell() >= len(data) or (data[:4] == b"OggS" and not _ogg_ends(data)):
            # The decoder wanted more when the bytes were used up.
            raise ends_early from error
        raise MediaError("undecodable", f"The bytes cannot be decoded as a sound (libsndfile error {code}).") from error


def _ogg_ends(data: bytes) -> bool:
    """Whether the last Ogg page is marked as the end of its stream."""
    last = data.rfind(b"OggS")
    return last + 5 < len(data) and bool(data[last + 5] & 4)
