"""Which way up a picture or frame is: EXIF's tag and the display matrix of videos, as Pillow's turns and flips.

Phones store what the sensor saw and note beside it how the phone was held. Only that note is read: nothing else of a
metadata block, which may be damaged or made to exhaust whoever reads it, is looked at.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

Turn = Image.Transpose

_TAG = 0x0112
_FIELDS = {1: "B", 3: "H", 4: "I"}  # the whole-number types of TIFF
_UPRIGHT_AFTER = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
# By the signs of a and d where they are the larger numbers of the matrix (0), else of b and c (1).
_SHOWN = {
    (0, False, True): Turn.FLIP_LEFT_RIGHT,
    (0, True, False): Turn.FLIP_TOP_BOTTOM,
    (0, False, False): Turn.ROTATE_180,
    (1, False, True): Turn.ROTATE_90,
    (1, True, False): Turn.ROTATE_270,
    (1, True, True): Turn.TRANSPOSE,
    (1, False, False): Turn.TRANSVERSE,
}
_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
_RAW_PROFILE = "Raw profile type exif"  # ImageMagick's text chunk: a name, a length and hexadecimal digits


def upright(picture: Image.Image, turn: Turn | None) -> Image.Image:
    """The picture, turned where it has to be."""
    return picture if turn is None else picture.transpose(turn)


def turn_of_picture(info: Mapping[Any, Any]) -> Turn | None:
    """What turns a picture upright by Pillow's `info` of it; None: it is upright, or nothing legible says otherwise.

    EXIF's orientation counts, then XMP's.
    """
    block = info.get("exif") or _raw_profile(info.get(_RAW_PROFILE))
    value = _exif_orientation(block) if isinstance(block, bytes) else 0
    if not value:
        xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
        found = _XMP.search(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp))
        value = int(found[1]) if found else 0
    return _UPRIGHT_AFTER.get(value)


def _raw_profile(text: Any) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None


def _exif_orientation(block: bytes) -> int:
    """The orientation in a TIFF block's first directory, 1 to 8; 0: it has none that can be read."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 0
    at = int(struct.unpack_from(f"{order}I", block, 4)[0])
    if at + 2 > len(block):
        return 0
    last = min(at + 2 + 12 * struct.unpack_from(f"{order}H", block, at)[0], len(block)) - 12
    for entry in range(at + 2, last + 1, 12):
        tag, field, count = struct.unpack_from(f"{order}HHI", block, entry)
        if tag == _TAG and field in _FIELDS and count == 1:
            value = int(struct.unpack_from(f"{order}{_FIELDS[field]}", block, entry + 8)[0])
            return value if 1 <= value <= 8 else 0
    return 0


def turn_of_frame(matrix: bytes | None) -> Turn | None:
    """What shows a video's frame as its display matrix says (nine numbers, FFmpeg's layout), to a quarter turn."""
    if matrix is None or len(matrix) != 36:
        return None
    # Row vectors: (x, y) is shown at (a x + c y, b x + d y), y downwards.
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    signs = (0, a >= 0, d >= 0) if abs(a) + abs(d) >= abs(b) + abs(c) else (1, b >= 0, c >= 0)
    return _SHOWN.get(signs)
