"""Small thumbnails of untrusted pictures, ready to stand inside a page."""

from __future__ import annotations

import base64
import io
import warnings
from typing import Literal

from PIL import Image, ImageOps

MAX_SIDE = 96  # pixels of the longer side
MAX_PIXELS = 50_000_000  # a picture that claims more is not decoded
Form = Literal["JPEG", "WEBP"]
_FORMATS = ("JPEG", "PNG", "WEBP")
_BEHIND_TRANSPARENCY = (128, 132, 138)  # neutral on light and dark


def thumbnail_data_uri(
    picture: bytes | None, max_side: int = MAX_SIDE, quality: int = 80, form: Form = "JPEG"
) -> str | None:
    """Turn a JPEG, PNG or WebP into a small data URI, or None where that cannot be done.

    The longer side gets at most `max_side` pixels; small pictures stay small. None for no bytes, and for broken,
    foreign or huge (over MAX_PIXELS) ones: never an exception, a report must not die of one poster.
    """
    small = shrink(picture, max_side, quality, form) if picture else None
    return None if small is None else f"data:image/{form.lower()};base64,{base64.b64encode(small).decode('ascii')}"


def shrink(picture: bytes, max_side: int = 2 * MAX_SIDE, quality: int = 90, form: Form = "JPEG") -> bytes | None:
    """Return a picture's small copy, or None where it is none that can be opened."""
    try:
        return _shrunk(picture, max_side, quality, form)
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more on hostile bytes
        return None


def _shrunk(picture: bytes, max_side: int, quality: int, form: Form) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bomb warnings: our own cap below is lower
        opened = Image.open(io.BytesIO(picture), formats=_FORMATS)
    with opened as source:
        if source.width * source.height > MAX_PIXELS:
            raise ValueError(f"{source.width} × {source.height} pixels are too many")
        source.draft("RGB", (2 * max_side, 2 * max_side))  # a JPEG is decoded near its final size
        upright = ImageOps.exif_transpose(source)
        if upright.has_transparency_data:
            over = upright.convert("RGBA")
            flat = Image.new("RGBA", over.size, (*_BEHIND_TRANSPARENCY, 255))
            flat.alpha_composite(over)
            upright = flat
        small = upright.convert("RGB")
    small.thumbnail((max_side, max_side))
    out = io.BytesIO()
    small.save(out, form, quality=quality, **({"optimize": True} if form == "JPEG" else {"method": 6}))
    return out.getvalue()
