"""Hand-made features: known answers for plain pictures and tones."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image, ImageDraw

from crossweave.encoders import make_encoder
from crossweave.encoders.batching import encode_values
from crossweave.encoders.mfcc import compute_mfcc, slopes

MOMENTS, HISTOGRAM, EDGES, LAYOUT = slice(0, 144), slice(144, 432), slice(432, 720), slice(720, 784)


def described(*images: Image.Image) -> np.ndarray:
    encoder = make_encoder("image", "descriptor", {})
    encoder.load()
    values = []
    for image in images:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        values.append(stream.getvalue())
    return encode_values(encoder, values)[0]


def test_red_and_blue_differ_in_colour_and_not_in_edges() -> None:
    red, blue = described(Image.new("RGB", (50, 50), "red"), Image.new("RGB", (50, 50), "blue"))
    assert red[HISTOGRAM] @ blue[HISTOGRAM] == 0
    assert np.abs(red[MOMENTS] - blue[MOMENTS]).max() > 0.3
    assert not red[EDGES].any()
    assert not blue[EDGES].any()


def test_the_size_of_a_picture_does_not_count() -> None:
    small, large = described(Image.new("RGB", (40, 60), "teal"), Image.new("RGB", (400, 600), "teal"))
    np.testing.assert_allclose(small, large, atol=1e-5)


def test_a_plain_picture_has_the_moments_and_the_layout_of_its_colour() -> None:
    (white,) = described(Image.new("RGB", (96, 96), "white"))
    cells = white[MOMENTS].reshape(16, 9)
    np.testing.assert_allclose(cells[:, :3], 0.16, atol=1e-6)  # (1 − 0.5) · 0.32
    np.testing.assert_allclose(cells[:, 3:], 0, atol=1e-6)
    assert white[HISTOGRAM].max() == pytest.approx(0.5)  # √(one bin of each of the four quarters / 4)
    assert white[LAYOUT][0] == pytest.approx(0.25 * math.log1p(16), rel=1e-4)  # 0.5 · 32: the DCT's first term
    np.testing.assert_allclose(white[LAYOUT][1:], 0, atol=1e-4)


def test_stripes_land_in_the_orientation_across_them() -> None:
    upright = Image.new("RGB", (96, 96), "white")
    lying = Image.new("RGB", (96, 96), "white")
    for at in range(0, 96, 16):
        ImageDraw.Draw(upright).rectangle((at, 0, at + 7, 95), fill="black")
        ImageDraw.Draw(lying).rectangle((0, at, 95, at + 7), fill="black")
    by_orientation = described(upright, lying)[:, EDGES].reshape(2, 36, 8).sum(axis=1)
    assert by_orientation[0].argmax() == 0
    assert by_orientation[1].argmax() == 4
    np.testing.assert_allclose(np.delete(by_orientation[0], 0), 0, atol=1e-5)


def test_each_block_of_a_busy_picture_has_a_norm_near_one() -> None:
    ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (96, 1))
    busy = np.stack([ramp, ramp.T, np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)], axis=2)
    (vector,) = described(Image.fromarray(busy))
    for block in (MOMENTS, HISTOGRAM, EDGES, LAYOUT):
        assert 0.3 < np.linalg.norm(vector[block]) < 2


def test_mfcc_equals_the_formula_written_out() -> None:
    rate, size, hop, bands, keep = 8_000, 64, 32, 10, 6
    wave = np.random.default_rng(1).standard_normal(200).astype(np.float32) * 0.1
    padded = np.concatenate([wave[size // 2 : 0 : -1], wave, wave[-2 : -2 - size // 2 : -1]]).astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = [700 * (10 ** (top * index / (bands + 1) / 2595) - 1) for index in range(bands + 2)]
    rows = []
    for start in range(0, len(padded) - size + 1, hop):
        frame = padded[start : start + size] * window
        energies = np.zeros(bands)
        for bin_index in range(size // 2 + 1):
            turn = np.exp(-2j * np.pi * bin_index * np.arange(size) / size)
            power = abs((frame * turn).sum()) ** 2
            hertz = bin_index * rate / size
            for band in range(bands):
                low, middle, high = edges[band : band + 3]
                energies[band] += power * max(
                    0.0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
                )
        rows.append(10 * np.log10(np.maximum(energies, 1e-10)))
    decibels = np.maximum(np.array(rows), np.max(rows) - 80)
    expected = np.zeros((len(decibels), keep))
    for index in range(keep):
        basis = np.cos(np.pi * index * (np.arange(bands) + 0.5) / bands) * math.sqrt((1 if index == 0 else 2) / bands)
        expected[:, index] = decibels @ basis
    found = compute_mfcc(torch.from_numpy(wave), rate, keep, bands, size, hop).numpy()
    assert found.shape == expected.shape == (200 // hop + 1, keep)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_slope_of_a_line_is_its_rise() -> None:
    line = torch.arange(12.0)[:, None] * 3
    np.testing.assert_allclose(slopes(line)[2:-2], 3)


def test_two_tones_differ_and_loudness_moves_only_the_level() -> None:
    encoder = make_encoder("audio", "mfcc", {})
    encoder.load()
    values = []
    rng = np.random.default_rng(0).standard_normal(16_000) * 0.02
    for hertz, gain in ((300, 1.0), (3000, 1.0), (300, 0.5)):
        wave = gain * (0.4 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000) + rng)
        stream = io.BytesIO()
        soundfile.write(stream, wave, 16_000, format="WAV", subtype="FLOAT")
        values.append(stream.getvalue())
    low, high, quiet = encode_values(encoder, values)[0]
    assert np.abs(low[1:20] - high[1:20]).max() > 20
    np.testing.assert_allclose(low[1:], quiet[1:], atol=1e-2)
    assert low[0] - quiet[0] == pytest.approx(20 * math.log10(2), abs=1e-2)  # the first one means decibels
