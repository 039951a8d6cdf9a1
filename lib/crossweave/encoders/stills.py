"""The one decoder of pictures, for encoders and for the report: upright, RGB, whole, and bounded.

Every refusal is a MediaError with a reason: empty, truncated, undecodable, wrong_format, too_many_pixels.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np

# Each is imported here, not by Pillow at the first picture: a decoder process may have no memory left to import with.
from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

from crossweave.encoders.orientation import turn_of_picture, upright
from crossweave.encoders.refusals import MediaError, require_bytes

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP")
# Known formats that are not decoded: "wrong format" tells the owner more than "broken".
_OTHER_IMAGES = (b"GIF8", b"BM", b"II*\0", b"MM\0*", b"%PDF", b"\0\0\1\0", b"<svg", b"<?xml", b"8BPS", b"\0\0\0\x0cjP")
_PNG = b"\x89PNG\r\n\x1a\n"
_WHITE = (255, 255, 255)


def decode_image(data: Any, max_pixels: int, target: int | None, ground: tuple[int, int, int] = _WHITE) -> Image.Image:
    """An upright RGB picture from JPEG, PNG or WEBP bytes, fully decoded; of several the first.

    The header is checked against `max_pixels` (width × height) before any pixel is decoded. With `target` (pixels)
    a JPEG may come out smaller, as its decoder scales by 1/2, 1/4 or 1/8 at a fraction of the cost, but with both
    sides at least `target`. Transparency is laid on `ground`. The picture is turned as EXIF says (all eight
    orientations, in all three formats); damage to such notes beside a picture is no damage to it. Raises MediaError.
    """
    data = require_bytes(data, "picture")
    try:
        try:
            return _decoded(data, max_pixels, target, ground)
        except (Image.DecompressionBombError, MediaError):
            raise
        except Exception:
            if not data.startswith(_PNG):
                raise
            return _decoded(_without_notes(data), max_pixels, target, ground)
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError("too_many_pixels", f"The picture is far too large to decode ({error}).") from error
    except Exception as error:  # Pillow's plugins raise whatever the bytes lead them to
        raise _image_failure(data, error) from error


def _decoded(data: bytes, max_pixels: int, target: int | None, ground: tuple[int, int, int]) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd notes, and sizes that our own cap is below
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise MediaError(
                    "too_many_pixels", f"The picture is {width}x{height}; at most {max_pixels} pixels were expected."
                )
            if target is not None:
                image.draft(None, (target, target))
            image.load()  # only this finds a picture that ends early, and what a PNG says after its pixels
            return _to_rgb(upright(image, turn_of_picture(image.info)), image.info, ground)


def _to_rgb(image: Image.Image, info: dict[Any, Any], ground: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip to white instead of scaling
        deep = np.asarray(image).astype(np.int64)
        grey = Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
        if isinstance(info.get("transparency"), int):
            grey.paste(ground, mask=Image.fromarray(deep == info["transparency"]))
        return grey
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        flat = Image.new("RGBA", layer.size, (*ground, 255))
        return Image.alpha_composite(flat, layer).convert("RGB")
    return image.convert("RGB")


def _without_notes(data: bytes) -> bytes:
    """A PNG's critical chunks, transparency, and EXIF where its checksum is right: what a picture is made of.

    Pillow refuses a whole picture over any other chunk that is damaged, or a text that is long when unpacked.
    """
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at : at + 12 + size]
        whole = struct.pack(">I", zlib.crc32(chunk[4:-4])) == chunk[-4:]
        if name[:1].isupper() or name == b"tRNS" or (name == b"eXIf" and whole):
            kept.append(chunk)
        at += 12 + size
    return b"".join([*kept, data[at:]])


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
    if data.startswith(_PNG):
        return b"IEND" not in data[-64:]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return int(struct.unpack("<I", data[4:8])[0]) + 8 > len(data)
    return len(data) < 12 and any(magic.startswith(data) for magic in (b"\xff\xd8\xff", _PNG, b"RIFF"))
