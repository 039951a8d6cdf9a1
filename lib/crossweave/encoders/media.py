"""Safe decoding of pictures and sounds from bytes that anyone may have made.

Every refusal is a MediaError with a reason: empty, truncated, undecodable, wrong_format, too_many_pixels for
pictures; empty, truncated, undecodable, silent, non_finite, too_long, too_short for sounds.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image

from crossweave.encoders.base import BadValueError
from crossweave.encoders.resampling import resample

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP")
AUDIO_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")
# Known formats that are not decoded: "wrong format" tells the owner more than "broken".
_OTHER_IMAGES = (b"GIF8", b"BM", b"II*\0", b"MM\0*", b"%PDF", b"\0\0\1\0", b"<svg", b"<?xml", b"8BPS", b"\0\0\0\x0cjP")
_AUDIO_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3")
_MAX_CHANNELS = 16
_SAMPLE_RATES = (2_000, 768_000)  # Hz; beyond lie only crafted headers
_MP3_FRAME = 1152  # samples; encoders disagree by about one frame on what the header should count
_SILENCE = 1e-5  # of full scale, −100 dB
_UNKNOWN_SIZE = 0x7FFF0000  # WAV writers that stream put such a size, or zero, where they cannot know it


class MediaError(BadValueError):
    """A picture or sound cannot be decoded, or must not be."""


def require_bytes(data: Any, what: str) -> bytes:
    """The bytes of a medium. Raises MediaError where it is of another type, or empty."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise MediaError("undecodable", f"A {type(data).__name__} came where a {what}'s bytes were expected.")
    if not data:
        raise MediaError("empty", f"The {what} has no bytes.")
    return bytes(data)


def refuse_non_finite(wave: npt.NDArray[np.float32], what: str) -> None:
    """Raise MediaError where a sample is NaN or infinite."""
    if not np.isfinite(wave).all():
        raise MediaError("non_finite", f"The {what} holds samples that are NaN or infinite.")


def refuse_silent(wave: npt.NDArray[np.float32], what: str) -> None:
    """Raise MediaError where there is nothing to hear."""
    if float(np.abs(wave).max()) < _SILENCE:
        raise MediaError("silent", f"Every sample of the {what} is (nearly) zero.")


def decode_image(data: bytes, max_pixels: int, target: int | None) -> Image.Image:
    """An RGB picture from JPEG, PNG or WEBP bytes, fully decoded; transparency is laid on white.

    The header is checked against `max_pixels` (width × height) before any pixel is decoded. With `target` (pixels)
    a JPEG may come out smaller, as its decoder scales by 1/2, 1/4 or 1/8 at a fraction of the cost, but with both
    sides at least `target`. Raises MediaError.
    """
    data = require_bytes(data, "picture")
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise MediaError(
                    "too_many_pixels", f"The picture is {width}x{height}; at most {max_pixels} pixels were expected."
                )
            if target is not None:
                image.draft(None, (target, target))
            image.load()  # only this finds a picture that ends early
            return _to_rgb(image)
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError("too_many_pixels", f"The picture is far too large to decode ({error}).") from error
    except Exception as error:  # Pillow's plugins raise whatever the bytes lead them to
        raise _image_failure(data, error) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip to white instead of scaling
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _image_failure(data: bytes, error: Exception) -> MediaError:
    if data.startswith(_OTHER_IMAGES) or data[4:8] == b"ftyp":
        return MediaError("wrong_format", f"The bytes are not {', '.join(IMAGE_FORMATS)}, the formats expected.")
    if _image_ends_early(data):
        return MediaError("truncated", f"The picture ends early, after {len(data)} bytes.")
    # Pillow's own words may hold an object's address; a detail must be the same on every run.
    return MediaError("undecodable", f"The bytes cannot be decoded as a picture ({type(error).__name__}).")


def _image_ends_early(data: bytes) -> bool:
    """Whether the container says that more bytes should follow; asked only of a picture that failed to decode."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-64:]  # end-of-image marker, up to a little padding
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return int(struct.unpack("<I", data[4:8])[0]) + 8 > len(data)
    return len(data) < 12 and any(magic.startswith(data) for magic in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF"))


def decode_audio(
    data: bytes, sample_rate: int, max_seconds: float, refuse_seconds: float = 3600.0
) -> npt.NDArray[np.float32]:
    """A mono waveform float32 [samples] in [−1, 1] at `sample_rate` Hz from WAV, FLAC, OGG or MP3 bytes.

    Channels are averaged. Only the first `max_seconds` are decoded: the rest of a longer clip is cut off. A clip
    whose header says more than `refuse_seconds` is refused as too_long. Raises MediaError.
    """
    data = require_bytes(data, "sound")
    if not data.startswith(_AUDIO_MAGIC) and not (data[0] == 0xFF and len(data) > 1 and data[1] & 0xE0 == 0xE0):
        raise MediaError("undecodable", "The bytes are not WAV, FLAC, OGG or MP3, the formats expected.")
    wave, rate = _read_frames(data, max_seconds, refuse_seconds)
    if not len(wave):
        raise MediaError("empty", "The sound has no samples.")
    refuse_non_finite(wave, "sound")
    mono = wave.mean(axis=1, dtype=np.float32)
    refuse_silent(mono, "sound")
    return resample(mono, rate, sample_rate)


def _read_frames(data: bytes, max_seconds: float, refuse_seconds: float) -> tuple[npt.NDArray[np.float32], int]:
    """The first `max_seconds` as float32 [frames, channels], and their rate in Hz."""
    stream = io.BytesIO(data)
    try:
        with soundfile.SoundFile(stream) as sound:
            rate, channels, form = int(sound.samplerate), int(sound.channels), str(sound.format)
            if form not in AUDIO_FORMATS or not _SAMPLE_RATES[0] <= rate <= _SAMPLE_RATES[1]:
                raise MediaError("undecodable", f"The sound is {form} at {rate} Hz, which is not expected.")
            if channels > _MAX_CHANNELS:
                raise MediaError("undecodable", f"The sound has {channels} channels; at most {_MAX_CHANNELS} expected.")
            if (form == "OGG" and not sound.frames) or (form in ("WAV", "WAVEX") and _wav_ends_early(data)):
                raise MediaError("truncated", f"The sound ends early, after {len(data)} bytes.")
            if sound.frames > refuse_seconds * rate:
                raise MediaError(
                    "too_long", f"The sound lasts {sound.frames / rate:.0f} s; at most {refuse_seconds:.0f} s expected."
                )
            wanted = min(int(sound.frames), int(max_seconds * rate))
            wave: npt.NDArray[np.float32] = sound.read(wanted, dtype="float32", always_2d=True)
            if len(wave) < wanted - (_MP3_FRAME if form == "MP3" else 0):
                raise MediaError("truncated", f"The sound ends after {len(wave)} of {wanted} samples.")
            return wave, rate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        if stream.tell() >= len(data) or (data[:4] == b"OggS" and not _ogg_ends(data)):
            # The decoder wanted more when the bytes were used up.
            raise MediaError("truncated", f"The sound ends early, after {len(data)} bytes.") from error
        code = getattr(error, "code", type(error).__name__)  # the text holds an object's address
        raise MediaError("undecodable", f"The bytes cannot be decoded as a sound (libsndfile error {code}).") from error


def _wav_ends_early(data: bytes) -> bool:
    """Whether a WAV's data chunk claims more bytes than follow (libsndfile silently adjusts the count)."""
    at = 12
    while at + 8 <= len(data):
        size = int(struct.unpack("<I", data[at + 4 : at + 8])[0])
        if data[at : at + 4] == b"data":
            return size < _UNKNOWN_SIZE and size > len(data) - at - 8
        at += 8 + size + (size & 1)
    return True


def _ogg_ends(data: bytes) -> bool:
    """Whether the last Ogg page is marked as the end of its stream."""
    last = data.rfind(b"OggS")
    return last + 5 < len(data) and bool(data[last + 5] & 4)
