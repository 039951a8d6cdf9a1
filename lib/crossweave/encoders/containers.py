"""Opens videos from bytes that anyone may have made: frames and sound tracks, through FFmpeg (PyAV).

Every refusal is a MediaError with a reason: empty, wrong_format, truncated, undecodable, too_many_pixels, too_long,
no_video, no_sound.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from crossweave.encoders.media import MediaError, refuse_non_finite, refuse_silent, require_bytes

# FFmpeg's names of what is opened, and the bytes by which it is known. Playlists and network protocols stay out: they
# would make the reader open other files.
_FORMATS = {
    "mp4": lambda data: data[4:8] == b"ftyp",
    "matroska": lambda data: data.startswith(b"\x1aE\xdf\xa3"),
    "avi": lambda data: data.startswith(b"RIFF") and data[8:12] == b"AVI ",
}
_ONE_SECOND = 1_000_000  # of FFmpeg's own clock, in which durations are counted


def _mp4_ends_early(data: bytes) -> bool:
    """Whether a top-level box claims more bytes than follow, or the index is missing."""
    at, found = 0, False
    while at + 8 <= len(data):
        size, name = int(struct.unpack(">I", data[at : at + 4])[0]), data[at + 4 : at + 8]
        if size == 1 and at + 16 <= len(data):
            size = int(struct.unpack(">Q", data[at + 8 : at + 16])[0])
        elif size == 0:  # to the end of the file
            size = len(data) - at
        if size < 8 or at + size > len(data):
            return True
        found = found or name == b"moov"
        at += size
    return not found


def _matroska_ends_early(data: bytes) -> bool:
    """Whether the header, or the segment, which holds everything, claims more bytes than follow."""
    at = 4
    for _ in range(2):
        length, size = _matroska_size(data, at)
        if size is None:
            return False  # a live stream does not know its size
        at += length + size
        if at > len(data):
            return True
        at += 4  # the next element's name
    return False


def _matroska_size(data: bytes, at: int) -> tuple[int, int | None]:
    """Bytes of a variable-length number, and its value; None where it says that the size is unknown."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if not first or at + length > len(data):
        return 1, len(data)  # torn: larger than anything
    most = (1 << 7 * length) - 1
    value = int.from_bytes(data[at : at + length], "big") & most
    return length, None if value == most else value


_ENDS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "mp4": _mp4_ends_early,
    "matroska": _matroska_ends_early,
    "avi": lambda data: len(data) < 12 or int(struct.unpack("<I", data[4:8])[0]) + 8 > len(data),
}


@contextmanager
def open_video(data: Any, max_seconds: float) -> Iterator[Any]:
    """A container of MP4/MOV, MKV/WebM or AVI bytes, opened by PyAV. Raises MediaError."""
    import av

    data = require_bytes(data, "video")
    name = next((name for name, fits in _FORMATS.items() if fits(data)), None)
    if name is None:
        raise MediaError("wrong_format", "The bytes are not MP4, MOV, MKV, WebM or AVI, the formats expected.")
    if _ENDS_EARLY[name](data):  # FFmpeg decodes what there is and says nothing
        raise MediaError("truncated", f"The video ends early, after {len(data)} bytes.")
    av.logging.set_level(None)
    try:
        options = {"enable_drefs": "0", "use_absolute_path": "0"} if name == "mp4" else {}
        opened: Any = av.open(io.BytesIO(data), mode="r", format=name, options=options)
        with opened as container:
            if container.duration is not None and container.duration > max_seconds * _ONE_SECOND:
                seconds = container.duration / _ONE_SECOND
                raise MediaError("too_long", f"The video lasts {seconds:.0f} s; at most {max_seconds:.0f} s expected.")
            yield container
    except MediaError:
        raise
    except (EOFError, av.error.EOFError) as error:
        raise MediaError("truncated", f"The video ends early, after {len(data)} bytes.") from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise MediaError("undecodable", f"The bytes cannot be decoded as a video ({type(error).__name__}).") from error


def read_frames(data: Any, count: int, max_pixels: int, max_seconds: float, max_decoded: int) -> list[Image.Image]:
    """Up to `count` RGB frames from the middles of as many equal parts of the video; fewer where it has fewer.

    At most `max_decoded` frames are decoded on the way. Raises MediaError.
    """
    with open_video(data, max_seconds) as container:
        if not container.streams.video:
            raise MediaError("no_video", "The file has no pictures.")
        stream = container.streams.video[0]
        if stream.width * stream.height > max_pixels:
            raise MediaError(
                "too_many_pixels", f"The video is {stream.width}x{stream.height}; at most {max_pixels} pixels expected."
            )
        stream.thread_type = "NONE"  # a worker has its share of the cores
        duration = _duration(container, stream)
        frames = _by_seeking(container, stream, duration, count, max_decoded) if duration else None
        frames = frames or _by_reading(container, stream, count, max_decoded)
        if not frames:
            raise MediaError("truncated", "No frame of the video can be decoded.")
        return [frame.to_image() for frame in frames]


def read_sound(data: Any, sample_rate: int, max_seconds: float, refuse_seconds: float) -> npt.NDArray[np.float32]:
    """The first `max_seconds` of the sound track as a mono waveform float32 [samples]. Raises MediaError."""
    import av

    with open_video(data, refuse_seconds) as container:
        if not container.streams.audio:
            raise MediaError("no_sound", "The file has no sound track.")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
        pieces: list[npt.NDArray[np.float32]] = []
        wanted, got = int(max_seconds * sample_rate), 0
        for frame in container.decode(audio=0):
            for piece in resampler.resample(frame):
                pieces.append(piece.to_ndarray()[0])
                got += pieces[-1].size
            if got >= wanted:
                break
        else:
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
        if not got:
            raise MediaError("truncated", "No sample of the sound track can be decoded.")
        wave = np.concatenate(pieces)[:wanted].astype(np.float32)
        refuse_non_finite(wave, "sound track")
        refuse_silent(wave, "sound track")
        return wave


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / _ONE_SECOND if container.duration else None


def _by_seeking(container: Any, stream: Any, duration: float, count: int, max_decoded: int) -> list[Any] | None:
    """The frame shown at each part's middle: seek to the key frame before it and decode up to it."""
    first = float((stream.start_time or 0) * stream.time_base)
    found: dict[int, Any] = {}
    decoded = 0
    for part in range(count):
        moment = first + duration * (part + 0.5) / count
        container.seek(int(moment / stream.time_base), stream=stream, backward=True, any_frame=False)
        shown = None
        for frame in container.decode(stream):
            decoded += 1
            if shown is not None and frame.time is not None and frame.time > moment:
                break
            shown = frame
            if decoded >= max_decoded or frame.time is None:
                break
        if shown is not None and shown.pts is not None:
            found[shown.pts] = shown
        if decoded >= max_decoded:
            break
    return [found[pts] for pts in sorted(found)] or None


def _by_reading(container: Any, stream: Any, count: int, max_decoded: int) -> list[Any]:
    """Without a known duration: every frame up to the limit, then an even choice of them."""
    frames = []
    container.seek(0)
    for frame in container.decode(stream):
        frames.append(frame)
        if len(frames) >= max_decoded:
            break
    if len(frames) <= count:
        return frames
    return [frames[int((part + 0.5) * len(frames) / count)] for part in range(count)]
