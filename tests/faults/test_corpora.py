"""Generated corpora of broken media: each item ends in a vector or in one failure, and its neighbours are unharmed."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny import picture, tone, tune

from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.batching import encode_prepared
from crossweave.encoders.isolation import IsolatedPreparer

IMAGE_REASONS = {"empty", "truncated", "undecodable", "wrong_format", "too_many_pixels", "too_much_memory"}
AUDIO_REASONS = {"empty", "truncated", "undecodable", "silent", "non_finite", "too_long", "too_short"}
TUNE_REASONS = {"empty", "truncated", "undecodable", "wrong_format", "too_long", "no_notes"}
CORPORA: dict[str, tuple[str, str, Callable[[], bytes], set[str]]] = {
    "jpeg": ("image", "descriptor", lambda: picture("red", (200, 150)), IMAGE_REASONS),
    "png": ("image", "descriptor", lambda: picture("red", (200, 150), "PNG"), IMAGE_REASONS),
    "webp": ("image", "descriptor", lambda: picture("red", (200, 150), "WEBP"), IMAGE_REASONS),
    "wav": ("audio", "mfcc", lambda: tone(440), AUDIO_REASONS),
    "flac": ("audio", "mfcc", lambda: tone(440, form="FLAC"), AUDIO_REASONS),
    "ogg": ("audio", "mfcc", lambda: tone(440, form="OGG"), AUDIO_REASONS),
    "mp3": ("audio", "mfcc", lambda: tone(440, form="MP3"), AUDIO_REASONS),
    "midi": ("audio", "midi", lambda: tune([60, 62, 64, 65, 67]), TUNE_REASONS),
}
FLIPS = 200


def encoded(encoder: Encoder, values: list[Any]) -> tuple[Any, list[int], dict[int, str]]:
    """Vectors, their positions, and the reason of every other value, through a decoder process."""
    preparer = IsolatedPreparer(encoder, seconds=20, megabytes=1024)
    try:
        prepared = preparer.prepare(values)
    finally:
        preparer.close()
    vectors, positions, failures = encode_prepared(encoder, prepared)
    assert sorted([*positions, *(failure.position for failure in failures)]) == list(range(len(values)))
    return vectors, positions, {failure.position: failure.reason for failure in failures}


@pytest.mark.parametrize("name", CORPORA)
def test_truncations_and_bit_flips_cost_only_themselves(name: str) -> None:
    kind, encoder_name, make, reasons = CORPORA[name]
    whole = make()
    rng = np.random.default_rng(1)
    broken = [whole[: len(whole) * tenth // 10] for tenth in range(10)]
    for _ in range(FLIPS):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        broken.append(bytes(data))
    encoder = make_encoder(kind, encoder_name, {})
    encoder.load()
    values = [value for item in broken for value in (item, whole)]
    vectors, positions, failures = encoded(encoder, values)
    assert set(failures.values()) <= reasons
    assert failures[0] == "empty"
    assert not [position for position in failures if position % 2]  # every whole neighbour has its vector
    neighbours = np.array([row for row, position in zip(vectors, positions, strict=True) if position % 2])
    assert (neighbours == neighbours[0]).all()
    assert np.isfinite(vectors).all()


def png_bomb(side: int) -> bytes:
    """A valid PNG of side × side black pixels in a few kilobytes."""
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))  # noqa: E731
    rows = zlib.compressobj(9)
    body = b"".join([rows.compress(b"\0" * (side // 8 + 1)) for _ in range(side)]) + rows.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_bombs_and_swapped_extensions_are_refused_by_reason() -> None:
    encoder = make_encoder("image", "descriptor", {})
    encoder.load()
    gif, torn = b"GIF89a" + b"\0" * 50, b"\xff\xd8\xff" + b"\0" * 9
    values = [png_bomb(20_000), tone(440), gif, b"<html>", picture("red"), torn]
    _, positions, failures = encoded(encoder, values)
    assert positions == [4]
    assert failures[0] == "too_many_pixels"
    assert failures[2] == "wrong_format"
    assert set(failures.values()) <= IMAGE_REASONS


PREPARE_A_LARGE_AND_A_SMALL_PICTURE = """
import io, json, sys
from PIL import Image
from crossweave.encoders import make_encoder
from crossweave.encoders.isolation import IsolatedPreparer
from tiny import picture

stream = io.BytesIO()
Image.new("RGB", (6000, 6000)).save(stream, "PNG", compress_level=1)  # 108 MB of pixels, under the pixel cap
preparer = IsolatedPreparer(make_encoder("image", "descriptor", {}), seconds=30, megabytes=64)
prepared = preparer.prepare([stream.getvalue(), picture("red")])
preparer.close()
sys.stdout.write(json.dumps([prepared.positions, [failure.reason for failure in prepared.failures]]))
"""


def test_a_picture_that_needs_more_memory_than_allowed_is_refused_and_its_neighbour_is_not() -> None:
    # In a process of its own, as a worker is: what the tests before freed, a decoder forked here could use again.
    command = [sys.executable, "-c", PREPARE_A_LARGE_AND_A_SMALL_PICTURE]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    positions, reasons = json.loads(done.stdout)
    assert positions == [1]
    assert reasons == ["too_much_memory"]


def test_sounds_with_nan_and_ten_megabytes_of_text_are_failures() -> None:
    import soundfile

    stream = io.BytesIO()
    wave = np.full(8000, np.nan, dtype=np.float32)
    soundfile.write(stream, wave, 16_000, format="WAV", subtype="FLOAT")
    mfcc = make_encoder("audio", "mfcc", {})
    mfcc.load()
    assert encoded(mfcc, [stream.getvalue(), tone(440)])[2] == {0: "non_finite"}
    words = make_encoder("text", "hashing", {})
    words.load()
    prepared = words.prepare(["word " * 2_000_000, "short"])
    assert [failure.reason for failure in prepared.failures] == ["too_long"]
    assert prepared.positions == [1]
