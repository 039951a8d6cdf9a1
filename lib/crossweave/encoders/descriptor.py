"""Pictures without weights: colour, edges and layout in one hand-made vector.

Pictures come as [B, H, W, channels] with H = W = 96.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from crossweave.encoders.base import EncoderSettings, FloatArray
from crossweave.encoders.pictures import ImageEncoder, ImageSettings

_SIDE = 96  # pixels of the copy that is described; pictures are squeezed to a square, as layout is relative
_MOMENT_GRID = 4
_HISTOGRAM_GRID = 2
_HUES, _SATURATIONS, _VALUES = 8, 3, 3
_HOG_GRID = 6
_ORIENTATIONS = 8
_DCT_SIDE, _DCT_KEEP = 32, 8
# Each block is scaled by a constant, so that on photographs all four come out with a norm of about one: brightness
# and contrast keep their meaning, which a norm of exactly one a picture would erase.
_MOMENT_SCALE = 0.32
_DCT_SCALE = 0.125


class DescriptorSettings(ImageSettings):
    """Settings of the image descriptor; its size is fixed."""


class DescriptorEncoder(ImageEncoder):
    """JPEG, PNG or WEBP bytes become a vector [784] of four blocks, each with a norm near one on photographs.

    144 colour moments (mean, deviation, cube-rooted skew of R, G, B on a 4 × 4 grid; Stricker & Orengo 1995);
    288 square-rooted HSV bins (8 × 3 × 3 on a 2 × 2 grid; the root makes the dot product a Hellinger kernel);
    288 gradient orientations (8 on a 6 × 6 grid, clipped at 0.2 as in Dalal & Triggs 2005); 64 lowest
    coefficients of the luminance's cosine transform. Failures: those of `stills.decode_image`.
    """

    name = "descriptor"
    Settings: ClassVar[type[EncoderSettings]] = DescriptorSettings
    settings: DescriptorSettings

    @property
    def batch_budget(self) -> int:
        """Pictures of one call: small, so that the work stays in the processor's cache."""
        return 16

    def _dim(self) -> int:
        return (
            _MOMENT_GRID**2 * 9
            + _HISTOGRAM_GRID**2 * _HUES * _SATURATIONS * _VALUES
            + _HOG_GRID**2 * _ORIENTATIONS
            + _DCT_KEEP**2
        )

    @property
    def decode_side(self) -> int:
        """That of the small copy."""
        return _SIDE

    def _prepare_picture(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """RGB and HSV of the small copy, uint8 [96, 96, 6]."""
        small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.concatenate([np.asarray(small), np.asarray(small.convert("HSV"))], axis=2)

    def _encode(self, examples: list[npt.NDArray[np.uint8]]) -> FloatArray:
        pixels_BHWC = np.stack(examples)
        rgb = pixels_BHWC[..., :3].astype(np.float32) / 255
        luminance = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return np.concatenate(
            [
                _colour_moments(rgb),
                _colour_histogram(pixels_BHWC[..., 3:]),
                _orientations(luminance),
                _layout(luminance),
            ],
            axis=1,
        )


def _cells(image: npt.NDArray[Any], grid: int) -> npt.NDArray[Any]:
    """[B, H, W, C] as [B, grid², pixels of a cell, C]."""
    batch, side, _, channels = image.shape
    edge = side // grid
    cut = image.reshape(batch, grid, edge, grid, edge, channels).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(batch, grid * grid, edge * edge, channels)


def _colour_moments(rgb: FloatArray) -> FloatArray:
    cells = _cells(rgb, _MOMENT_GRID)
    mean = cells.mean(axis=2, keepdims=True)
    centred = cells - mean
    squared = centred * centred
    deviation = np.sqrt(squared.mean(axis=2))
    skew = np.cbrt((squared * centred).mean(axis=2))
    moments = np.concatenate([mean[:, :, 0] - 0.5, deviation, skew], axis=2)
    return (moments * _MOMENT_SCALE).reshape(len(rgb), -1)


def _colour_histogram(hsv: npt.NDArray[np.uint8]) -> FloatArray:
    hue, saturation, value = (hsv[..., channel].astype(np.int64) for channel in range(3))
    levels = _HUES * _SATURATIONS * _VALUES
    # A colour without saturation or light has no hue: all of those share the first bin of their level.
    hue = np.where((saturation < 26) | (value < 26), 0, (hue + 16) % 256 * _HUES // 256)
    level = (hue * _SATURATIONS + saturation * _SATURATIONS // 256) * _VALUES + value * _VALUES // 256
    cells = _cells(level[..., None], _HISTOGRAM_GRID)[..., 0]
    batch, count, pixels = cells.shape
    slot = cells + np.arange(batch * count).reshape(batch, count, 1) * levels
    bins = np.bincount(slot.ravel(), minlength=batch * count * levels).reshape(batch, -1)
    return np.sqrt(bins / (pixels * count)).astype(np.float32)


def _orientations(luminance: FloatArray) -> FloatArray:
    gradient_y = np.zeros_like(luminance)
    gradient_x = np.zeros_like(luminance)
    gradient_y[:, 1:-1] = luminance[:, 2:] - luminance[:, :-2]
    gradient_x[:, :, 1:-1] = luminance[:, :, 2:] - luminance[:, :, :-2]
    strength = np.sqrt(gradient_x * gradient_x + gradient_y * gradient_y)
    turn = np.arctan2(gradient_y, gradient_x) * (_ORIENTATIONS / np.pi) % _ORIENTATIONS  # unsigned: half a turn
    low = np.floor(turn)
    share = turn - low
    low_bin = low.astype(np.int64) % _ORIENTATIONS
    batch = len(luminance)
    cell_count = _HOG_GRID * _HOG_GRID
    base = np.arange(batch * cell_count).reshape(batch, cell_count, 1) * _ORIENTATIONS
    histogram = np.zeros(batch * cell_count * _ORIENTATIONS)
    for which, weight in ((low_bin, strength * (1 - share)), ((low_bin + 1) % _ORIENTATIONS, strength * share)):
        slot = base + _cells(which[..., None], _HOG_GRID)[..., 0]
        histogram += np.bincount(slot.ravel(), _cells(weight[..., None], _HOG_GRID).ravel(), len(histogram))
    histogram = histogram.reshape(batch, -1)
    # Two rounds of unit norm with a clip between: no single hard edge owns the vector. Flat pictures stay zero.
    clipped = np.minimum(_unit(histogram), 0.2)
    return _unit(clipped).astype(np.float32)


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = np.where(norms > 1e-3, rows / np.maximum(norms, 1e-3), 0)
    return unit


def _layout(luminance: FloatArray) -> FloatArray:
    edge = _SIDE // _DCT_SIDE
    small = luminance.reshape(-1, _DCT_SIDE, edge, _DCT_SIDE, edge).mean(axis=(2, 4)) - 0.5
    basis = _cosines(_DCT_SIDE, _DCT_KEEP)
    coefficients = (basis @ small @ basis.T).reshape(len(luminance), -1)
    return (np.sign(coefficients) * np.log1p(np.abs(coefficients)) * (2 * _DCT_SCALE)).astype(np.float32)


@functools.cache
def _cosines(size: int, keep: int) -> FloatArray:
    """The first `keep` rows of the orthonormal DCT-II of `size` points."""
    rows = np.cos(np.pi / size * (np.arange(size) + 0.5) * np.arange(keep)[:, None]) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return rows.astype(np.float32)
