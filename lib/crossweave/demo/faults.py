"""The faults that the shop holds on purpose: how each is made and the reason code that the quarantine should give."""

from __future__ import annotations

import struct
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crossweave.demo.pictures import draw_picture, encode_picture
from crossweave.demo.sounds import SAMPLE_RATE, encode_sound, play
from crossweave.demo.taste import STYLE_DIM

_BOMB_SIDE = 30_000
_SHORT_DIM = 11


@dataclass(frozen=True)
class Fault:
    """One way to break one cell of an item."""

    column: str
    modality: str
    """Name of the modality in conf/local.yaml that reads the column."""
    how: str
    reason: str


@dataclass(frozen=True)
class BrokenCell:
    """One entry of broken.json: a cell or, where the column is null, a whole row."""

    table: str
    row: int
    """Row in the table's file, from 0."""
    item_id: int | None
    user_id: str | None
    column: str | None
    modality: str | None
    how: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return asdict(self)


FAULTS = (
    Fault("image", "image", "JPEG cut off after 45 % of its bytes", "truncated"),
    Fault("image", "image", "random bytes", "undecodable"),
    Fault("image", "image", "no bytes", "empty_content"),
    Fault("image", "image", f"PNG whose header announces {_BOMB_SIDE} x {_BOMB_SIDE} pixels", "too_many_pixels"),
    Fault("image", "image", "GIF in place of a JPEG", "wrong_format"),
    Fault("sound", "sound", "random bytes", "undecodable"),
    Fault("sound", "sound", "no bytes", "empty_content"),
    Fault("sound", "sound", "WAV whose samples are all zero", "silent"),
    Fault("sound", "sound", "WAV cut off after 45 % of its bytes", "truncated"),
    Fault("style_vector", "style", "vector with a NaN", "non_finite"),
    Fault("style_vector", "style", f"vector of {_SHORT_DIM} values instead of {STYLE_DIM}", "wrong_dim"),
    # The title too: the text modality reads both columns, and a good title would leave it content.
    Fault("description", "text", "blank spaces only, in the title too", "empty_content"),
)


def break_item(item: dict[str, Any], fault: Fault, factors: np.ndarray, rng: np.random.Generator) -> None:
    """Replace the cell that the fault names by its broken form."""
    match fault.column, fault.reason:
        case "image", "truncated":
            item["image"] = _cut(encode_picture(draw_picture(factors, rng), "JPEG"))
        case "image", "too_many_pixels":
            item["image"] = _pixel_bomb()
        case "image", "wrong_format":
            item["image"] = encode_picture(draw_picture(factors, rng), "GIF")
        case "sound", "truncated":
            item["sound"] = _cut(encode_sound(play(int(factors[3]), rng), "WAV"))
        case "sound", "silent":
            item["sound"] = encode_sound(np.zeros(SAMPLE_RATE), "WAV")
        case "style_vector", "non_finite":
            item["style_vector"] = item["style_vector"].copy()
            item["style_vector"][3] = np.nan
        case "style_vector", "wrong_dim":
            item["style_vector"] = item["style_vector"][:_SHORT_DIM]
        case "description", "empty_content":
            item["title"], item["description"] = "  ", "     "
        case column, "empty_content":
            item[column] = b""
        case column, "undecodable":
            item[column] = b"\x07" + rng.bytes(700)  # no file format starts with a bell, whatever the seed


def _cut(content: bytes) -> bytes:
    return content[: int(len(content) * 0.45)]


def _pixel_bomb() -> bytes:
    """Return a small PNG, valid by its checksums, whose header announces 900 million pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", _BOMB_SIDE, _BOMB_SIDE, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((_BOMB_SIDE + 1) * 4))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
