"""The shop's pictures: a product outline by category, filled with the pattern of its style in its palette."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from crossweave.demo.patterns import Colour, draw_pattern
from crossweave.demo.taste import CATEGORIES, PALETTES

ImageFormat = Literal["JPEG", "PNG"]

_SIDES = (96, 112, 128, 144, 160)
_OVERSAMPLING = 3  # drawn larger and shrunk: Pillow's shapes have no anti-aliasing of their own
_GRAIN = 3.5  # standard deviation of the film grain, in grey levels
_COLOUR_JITTER = 9

# Per palette: ground, then four inks.
_COLOURS: dict[str, tuple[str, str, str, str, str]] = {
    "ember": ("#F7E8DA", "#8C2F1B", "#D1572B", "#F0A35E", "#4A211B"),
    "lagoon": ("#E2F0EF", "#0B4F5C", "#1E8A8A", "#7CC6BC", "#F2C879"),
    "meadow": ("#EEF2E0", "#2F5233", "#6A994E", "#A7C957", "#E3B05A"),
    "dusk": ("#F1E6EF", "#3D2C5E", "#7B4B94", "#D16BA5", "#F7B2A3"),
    "sand": ("#F4EFE6", "#5C4B3C", "#A68A6D", "#D4BFA0", "#8FA3A0"),
    "citrus": ("#FFF6DA", "#E4572E", "#F6AE2D", "#F9DC5C", "#2E8A76"),
}


def draw_picture(factors: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Return the product picture of an item, 96 to 160 pixels square."""
    category, style, palette = (int(value) for value in factors[:3])
    side = int(rng.choice(_SIDES))
    large = side * _OVERSAMPLING
    ground, *inks = (_shift(colour, rng) for colour in _COLOURS[PALETTES[palette]])
    pattern = draw_pattern(style, large, ground, inks, rng)
    picture = _stage(CATEGORIES[category], pattern, ground, inks, rng).resize((side, side), Image.Resampling.LANCZOS)
    grain = rng.normal(scale=_GRAIN, size=(side, side, 1))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def encode_picture(picture: Image.Image, image_format: ImageFormat | Literal["GIF"]) -> bytes:
    """Return the picture as the bytes of an image file."""
    buffer = io.BytesIO()
    if image_format == "JPEG":
        picture.save(buffer, "JPEG", quality=88)
    else:
        picture.save(buffer, image_format)
    return buffer.getvalue()


def _shift(colour: str, rng: np.random.Generator) -> Colour:
    """Move a palette colour a little, so that no two items share exact colours."""
    base = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    red, green, blue = np.clip(base + rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, size=3), 0, 255)
    return int(red), int(green), int(blue)


def _blend(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _stage(
    category: str, pattern: Image.Image, ground: Colour, inks: list[Colour], rng: np.random.Generator
) -> Image.Image:
    """Place the patterned product, with its shadow and its details, on a plain wall."""
    side = pattern.width
    wall = _blend(ground, inks[int(rng.integers(len(inks)))], 0.22)
    scene = Image.new("RGB", (side, side), wall)
    body, details = Image.new("L", (side, side), 0), Image.new("RGBA", (side, side), (0, 0, 0, 0))
    _OUTLINES[category](ImageDraw.Draw(body), ImageDraw.Draw(details), side, inks)
    silhouette = ImageChops.lighter(body, details.getchannel("A"))
    shadow = ImageChops.offset(silhouette, side // 60, side // 36).filter(ImageFilter.BoxBlur(side // 40))
    scene.paste(_blend(wall, (20, 18, 24), 0.55), mask=shadow.point(lambda level: int(level * 0.6)))
    scene.paste(pattern, mask=body)
    scene.paste(details, mask=details.getchannel("A"))
    return scene


def _box(side: int, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return side * left, side * top, side * right, side * bottom


def _poster(body: ImageDraw.ImageDraw, details: ImageDraw.ImageDraw, side: int, inks: list[Colour]) -> None:
    body.rectangle(_box(side, 0.18, 0.07, 0.82, 0.93), fill=255)
    details.rectangle(_box(side, 0.18, 0.07, 0.82, 0.93), outline=(38, 34, 34, 255), width=side // 45)
    details.rectangle(_box(side, 0.2, 0.09, 0.8, 0.91), outline=(250, 248, 243, 255), width=side // 24)


def _record(body: ImageDraw.ImageDraw, details: ImageDraw.ImageDraw, side: int, inks: list[Colour]) -> None:
    details.ellipse(_box(side, 0.27, 0.15, 0.97, 0.85), fill=(24, 23, 27, 255))
    for inset in (0.05, 0.1, 0.15):
        groove = _box(side, 0.27 + inset, 0.15 + inset, 0.97 - inset, 0.85 - inset)
        details.ellipse(groove, outline=(62, 60, 66, 255), width=max(1, side // 200))
    sleeve = _box(side, 0.04, 0.13, 0.76, 0.87)
    details.rectangle(sleeve, fill=(0, 0, 0, 0))  # the sleeve hides this part of the disc
    body.rectangle(sleeve, fill=255)


def _cushion(body: ImageDraw.ImageDraw, details: ImageDraw.ImageDraw, side: int, inks: list[Colour]) -> None:
    # A square whose edges bulge inwards: beyond the power of 1, which is the plain square, the corners stick out.
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    x, y = np.cos(angles), np.sin(angles)
    pull = 0.34 / np.maximum(np.abs(x), np.abs(y)) ** 1.3
    outline = [(side * (0.5 + float(r * a)), side * (0.5 + float(r * b))) for a, b, r in zip(x, y, pull, strict=True)]
    body.polygon(outline, fill=255)
    details.line([*outline, outline[0]], fill=(*inks[0], 255), width=max(2, side // 70), joint="curve")


def _mug(body: ImageDraw.ImageDraw, details: ImageDraw.ImageDraw, side: int, inks: list[Colour]) -> None:
    details.ellipse(_box(side, 0.58, 0.34, 0.93, 0.72), outline=(*inks[0], 255), width=side // 16)
    cup = _box(side, 0.14, 0.22, 0.72, 0.86)
    details.rectangle(cup, fill=(0, 0, 0, 0))  # the handle starts behind the cup
    body.rounded_rectangle(cup, radius=side * 0.09, fill=255)
    details.ellipse(_box(side, 0.14, 0.16, 0.72, 0.29), fill=(250, 248, 243, 255))
    details.ellipse(_box(side, 0.18, 0.185, 0.68, 0.275), fill=(74, 50, 38, 255))


def _notebook(body: ImageDraw.ImageDraw, details: ImageDraw.ImageDraw, side: int, inks: list[Colour]) -> None:
    cover = _box(side, 0.2, 0.08, 0.84, 0.92)
    body.rounded_rectangle(cover, radius=side * 0.04, fill=255)
    details.rectangle(_box(side, 0.2, 0.08, 0.3, 0.92), fill=(*inks[0], 255))
    details.rounded_rectangle(_box(side, 0.42, 0.4, 0.74, 0.56), radius=side * 0.02, fill=(250, 248, 243, 255))
    for line in (0.455, 0.505):
        details.line(_box(side, 0.47, line, 0.69, line), fill=(120, 116, 116, 255), width=max(1, side // 110))


def _lamp(body: ImageDraw.ImageDraw, details: ImageDraw.ImageDraw, side: int, inks: list[Colour]) -> None:
    details.rectangle(_box(side, 0.47, 0.55, 0.53, 0.88), fill=(60, 52, 48, 255))
    details.ellipse(_box(side, 0.32, 0.84, 0.68, 0.93), fill=(60, 52, 48, 255))
    shade = [(0.32, 0.08), (0.68, 0.08), (0.9, 0.64), (0.1, 0.64)]
    points = [(side * x, side * y) for x, y in shade]
    details.polygon(points, fill=(0, 0, 0, 0))
    body.polygon(points, fill=255)
    details.line([points[3], points[2]], fill=(*inks[0], 255), width=side // 45)


_OUTLINES = {
    "poster": _poster,
    "record": _record,
    "cushion": _cushion,
    "mug": _mug,
    "notebook": _notebook,
    "lamp": _lamp,
}
