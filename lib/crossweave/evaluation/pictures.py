"""Small thumbnails of untrusted pictures, ready to stand inside a page."""

from __future__ import annotations

import base64
import io
from typing import Literal

MAX_SIDE = 96  # pixels of the longer side
MAX_PIXELS = 50_000_000  # a picture that claims more is not decoded
Form = Literal["JPEG", "WEBP"]
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
    except Exception:  # whatever the decoder, or the encoder of the copy, makes of hostile bytes
        return None


def _shrunk(picture: bytes, max_side: int, quality: int, form: Form) -> bytes:
    from crossweave.encoders.stills import decode_image  # here: a report without pictures needs no decoder

    # A JPEG is decoded near its final size.
    small = decode_image(picture, MAX_PIXELS, 2 * max_side, ground=_BEHIND_TRANSPARENCY)
    small.thumbnail((max_side, max_side))
    out = io.BytesIO()
    small.save(out, form, quality=quality, **({"optimize": True} if form == "JPEG" else {"method": 6}))
    return out.getvalue()
