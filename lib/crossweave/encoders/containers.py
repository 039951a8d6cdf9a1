"""Opens what FFmpeg (PyAV) reads, from bytes that anyone may have made: videos, their sound tracks, and sounds.

Every refusal is a MediaError with a reason: empty, wrong_format, truncated, undecodable, too_many_pixels, too_long,
no_video, no_sound; of sounds also empty, non_finite and silent.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av  # here, not at the first video: a decoder process may have no memory left to import with
import numpy as np
import numpy.typing as npt
from PIL import Image

from crossweave.encoders import container_headers as headers
from crossweave.encoders.orientation import turn_of_frame, upright
from crossweave.encoders.refusals import MediaError, is_believed, refuse_long, refuse_odd_sound, require_bytes
from crossweave.encoders.waveforms import waveform


@dataclass(frozen=True)
class _Format:
    """How a container is known by its bytes, whether it is cut, and whether its header knows how long it lasts."""

    fits: Callable[[bytes], bool]
    ends_early: Callable[[bytes], bool] = lambda _: False
    timed: bool = True


_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
# FFmpeg's names of what is opened. Playlists and network protocols stay out: they would make it open other files.
_VIDEOS = {
    "mp4": _Format(lambda data: data[4:8] in _BOXES, headers.mp4_ends_early),
    "matroska": _Format(lambda data: data.startswith(b"\x1aE\xdf\xa3"), headers.matroska_ends_early),
    "avi": _Format(lambda data: data.startswith(b"RIFF") and data[8:12] == b"AVI ", headers.avi_ends_early),
}
_SOUNDS = {
    "mp4": _VIDEOS["mp4"],
    "matroska": _VIDEOS["matroska"],
    "aac": _Format(headers.is_adts, headers.adts_ends_early, timed=False),
    "asf": _Format(lambda data: data.startswith(bytes.fromhex("3026b2758e66cf11a6d9")), headers.asf_ends_early),
    "caf": _Format(lambda data: data.startswith(b"caff"), headers.caf_ends_early),
    "amr": _Format(lambda data: data.startswith(b"#!AMR"), timed=False),
}
# What libsndfile reads, unless it cannot know how long it lasts.
_COUNTED = {
    "flac": _Format(lambda data: data.startswith(b"fLaC"), timed=False),
    "ogg": _Format(lambda data: data.startswith(b"OggS"), timed=False),
    "mp3": _Format(lambda data: data.startswith((b"ID3", b"\xff")), timed=False),
}
_ONE_SECOND = 1_000_000  # of FFmpeg's own clock, in which durations are counted


def is_sound_container(data: bytes) -> bool:
    """Whether the bytes begin as a container of sounds does."""
    return any(form.fits(data) for form in _SOUNDS.values())


def read_frames(data: Any, count: int, max_pixels: int, max_seconds: float, max_decoded: int) -> list[Image.Image]:
    """Up to `count` RGB frames from the middles of as many equal parts of the video; fewer where it has fewer.

    At most `max_decoded` frames are decoded on the way. Frames are turned as the video says. Raises MediaError.
    """
    with _opened(data, _VIDEOS, "video", max_seconds) as (container, believed):
        if not container.streams.video:
            raise MediaError("no_video", "The file has no pictures.")
        stream = container.streams.video[0]
        if stream.width * stream.height > max_pixels:
            raise MediaError(
                "too_many_pixels", f"The video is {stream.width}x{stream.height}; at most {max_pixels} pixels expected."
            )
        stream.thread_type = "NONE"  # a worker has its share of the cores
        duration = _duration(container, stream) if believed else None
        frames = _by_seeking(container, stream, duration, count, max_decoded) if duration else None
        frames = frames or _by_reading(container, stream, count, max_decoded)
        if not frames:
            raise MediaError("truncated", "No frame of the video can be decoded.")
        # One thread: each more takes memory for its stack, and a worker has its share of the cores.
        return [upright(frame.to_image(threads=1), turn_of_frame(_display_matrix(frame))) for frame in frames]


def read_sound(data: Any, sample_rate: int, max_seconds: float, refuse_seconds: float) -> npt.NDArray[np.float32]:
    """The first `max_seconds` of a video's sound track as a mono waveform float32 [samples]. Raises MediaError."""
    return waveform(*read_track(data, "video", max_seconds, refuse_seconds), sample_rate, "sound track")


def read_track(
    data: Any, what: str, max_seconds: float, refuse_seconds: float, counted: bool = False
) -> tuple[npt.NDArray[np.float32], int]:
    """The first `max_seconds` of the sound in a video or sound container: float32 [samples, channels], rate in Hz.

    Where the header does not know how long it lasts, or cannot be right, it is counted, unless it was `counted` before.
    Raises MediaError.
    """
    with _opened(data, _VIDEOS if what == "video" else _SOUNDS | _COUNTED, what, refuse_seconds) as (
        container,
        believed,
    ):
        if not container.streams.audio:
            raise MediaError("no_sound", "The file has no sound track.")
        stream = container.streams.audio[0]
        stream.thread_type = "NONE"
        pieces: list[npt.NDArray[np.float32]] = []
        rate, got = 0, 0
        for piece in _planes(container, stream):
            rate = piece.sample_rate
            wanted = int(max_seconds * rate)
            if got < wanted:
                pieces.append(piece.to_ndarray().T[: wanted - got])
            got += piece.samples
            if got >= wanted and (counted or (believed and container.duration)):
                break
            refuse_long(got / rate, refuse_seconds, what)
        if not got:
            raise MediaError("truncated", "No sample of the sound track can be decoded.")
        return np.concatenate(pieces).astype(np.float32), rate


def _planes(container: Any, stream: Any) -> Iterator[Any]:
    """The track's frames as planes of float32, all in the rate and layout of the first, which may change on the way."""
    resampler: Any = None
    kind: tuple[Any, ...] = ()
    first: Any = None
    for frame in container.decode(stream):
        if first is None:
            first = frame
            refuse_odd_sound(first.sample_rate, first.layout.nb_channels)
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or found != kind:
            if resampler is not None:
                yield from resampler.resample(None)
            resampler = av.AudioResampler(format="fltp", layout=first.layout, rate=first.sample_rate)
            kind = found
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


@contextmanager
def _opened(data: Any, formats: dict[str, _Format], what: str, max_seconds: float) -> Iterator[tuple[Any, bool]]:
    """A container opened by PyAV, and whether what it says of its length is to be believed. Raises MediaError."""
    data = require_bytes(data, what)
    name = next((name for name, form in formats.items() if form.fits(data)), None)
    if name is None:
        names = "MP4, MOV, MKV, WebM or AVI" if formats is _VIDEOS else "M4A, MP4, MKV, WebM, AAC, WMA, CAF or AMR"
        raise MediaError("wrong_format", f"The bytes are not {names}, the formats expected.")
    if formats[name].ends_early(data):
        raise MediaError("truncated", f"The {what} ends early, after {len(data)} bytes.")
    av.logging.set_level(None)
    try:
        options = {"enable_drefs": "0", "use_absolute_path": "0"} if name == "mp4" else {}
        opened: Any = av.open(io.BytesIO(data), mode="r", format=name, options=options)
        with opened as container:
            seconds = (container.duration or 0) / _ONE_SECOND
            believed = formats[name].timed and is_believed(seconds, max_seconds, len(data))
            if believed:
                refuse_long(seconds, max_seconds, what)
            yield container, believed
    except (MediaError, MemoryError):  # FFmpeg's own want of memory is a MemoryError too
        raise
    except av.error.BlockingIOError as error:  # no thread could be started
        raise MemoryError from error
    except (EOFError, av.error.EOFError) as error:
        raise MediaError("truncated", f"The {what} ends early, after {len(data)} bytes.") from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise MediaError("undecodable", f"The bytes cannot be decoded as a {what} ({type(error).__name__}).") from error


def _display_matrix(frame: Any) -> bytes | None:
    return next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)


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
