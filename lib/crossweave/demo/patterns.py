"""The six drawing styles: each fills a square with one kind of pattern in the colours of a palette."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from crossweave.demo.taste import STYLES

Colour = tuple[int, int, int]
_Canvas = ImageDraw.ImageDraw


def draw_pattern(style: int, side: int, ground: Colour, inks: list[Colour], rng: np.random.Generator) -> Image.Image:
    """Return a square picture of `side` pixels with the pattern of the style."""
    picture = Image.new("RGB", (side, side), ground)
    _DRAWERS[STYLES[style]](ImageDraw.Draw(picture), side, ground, inks, rng)
    return picture


def _ink(inks: list[Colour], rng: np.random.Generator) -> Colour:
    return inks[int(rng.integers(len(inks)))]


def _bauhaus(canvas: _Canvas, side: int, ground: Colour, inks: list[Colour], rng: np.random.Generator) -> None:
    """Quarter circles, discs and blocks on a grid."""
    cells = int(rng.integers(3, 5))
    step = side / cells
    for row in range(cells):
        for column in range(cells):
            left, top = column * step, row * step
            back, front = rng.permutation(len(inks))[:2]
            canvas.rectangle((left, top, left + step, top + step), fill=inks[back] if rng.random() < 0.6 else ground)
            shape = rng.random()
            if shape < 0.6:
                corner = int(rng.integers(4))
                x, y = left + step * (corner % 2), top + step * (corner // 2)
                start = (0, 90, 270, 180)[corner]
                canvas.pieslice((x - step, y - step, x + step, y + step), start, start + 90, fill=inks[front])
            elif shape < 0.85:
                edge = step * 0.18
                canvas.ellipse((left + edge, top + edge, left + step - edge, top + step - edge), fill=inks[front])


def _deco(canvas: _Canvas, side: int, ground: Colour, inks: list[Colour], rng: np.random.Generator) -> None:
    """Rows of overlapping fans made of nested arcs."""
    radius = side / float(rng.uniform(5.0, 7.5))
    order = [inks[i] for i in rng.permutation(len(inks))]
    rows = int(side / (radius * 0.5)) + 4
    for row in range(rows):
        shift = radius if row % 2 else 0.0
        y = row * radius * 0.5
        for column in range(-1, int(side / (2 * radius)) + 2):
            x = column * 2 * radius + shift
            for ring, share in enumerate((1.0, 0.88, 0.62, 0.5, 0.26)):
                colour = ground if ring % 2 else order[ring // 2]
                reach = radius * share
                canvas.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)


def _botanical(canvas: _Canvas, side: int, ground: Colour, inks: list[Colour], rng: np.random.Generator) -> None:
    """Stems with paired leaves."""
    stems = int(rng.integers(3, 6))
    for stem in range(stems):
        x = side * (stem + 0.5 + float(rng.uniform(-0.2, 0.2))) / stems
        top = side * float(rng.uniform(0.05, 0.3))
        lean = side * float(rng.uniform(-0.1, 0.1))
        colour = _ink(inks, rng)
        canvas.line((x, side, x + lean, top), fill=colour, width=max(2, side // 90))
        leaves = int(rng.integers(5, 9))
        size = side / stems * float(rng.uniform(0.5, 0.7))
        for leaf in range(leaves):
            share = (leaf + 0.6) / leaves
            base = (x + lean * share, side + (top - side) * share)
            for direction in (-1, 1):
                _leaf(canvas, base, direction, size * (1.15 - 0.6 * share), colour)
        canvas.ellipse(
            (x + lean - size * 0.22, top - size * 0.22, x + lean + size * 0.22, top + size * 0.22), fill=colour
        )


def _leaf(canvas: _Canvas, base: tuple[float, float], direction: int, length: float, colour: Colour) -> None:
    angle = math.radians(-38 if direction > 0 else -142)
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    shares = [index / 8 for index in range(9)]
    bulges = [(share, 0.24 * math.sin(math.pi * share**0.8)) for share in shares]
    outline = bulges + [(share, -bulge) for share, bulge in reversed(bulges)]
    canvas.polygon(
        [
            (
                base[0] + length * (share * along[0] + bulge * across[0]),
                base[1] + length * (share * along[1] + bulge * across[1]),
            )
            for share, bulge in outline
        ],
        fill=colour,
    )


def _nordic(canvas: _Canvas, side: int, ground: Colour, inks: list[Colour], rng: np.random.Generator) -> None:
    """Bands of triangles, zigzags and diamonds, as on a knitted jumper."""
    bands = int(rng.integers(4, 7))
    height = side / bands
    teeth = int(rng.integers(4, 8))
    width = side / teeth
    for band in range(bands):
        top = band * height
        back, front = (inks[i] for i in rng.permutation(len(inks))[:2])
        if rng.random() < 0.5:
            back = ground
        canvas.rectangle((0, top, side, top + height), fill=back)
        kind = int(rng.integers(3))
        for tooth in range(teeth + 1):
            x = tooth * width
            middle = top + height / 2
            if kind == 0:
                canvas.polygon([(x, top + height), (x + width / 2, top), (x + width, top + height)], fill=front)
            elif kind == 1:
                half = width * 0.42
                canvas.polygon(
                    [
                        (x, middle),
                        (x + half, top + height * 0.1),
                        (x + 2 * half, middle),
                        (x + half, top + height * 0.9),
                    ],
                    fill=front,
                )
            else:
                low, high = top + height * 0.75, top + height * 0.25
                line = [(x, low), (x + width / 2, high), (x + width, low)]
                canvas.line(line, fill=front, width=max(3, int(height * 0.26)), joint="curve")


def _sunburst(canvas: _Canvas, side: int, ground: Colour, inks: list[Colour], rng: np.random.Generator) -> None:
    """Rays from a low sun with rings around it."""
    x, y = side * float(rng.uniform(0.3, 0.7)), side * float(rng.uniform(0.55, 0.85))
    rays = 2 * int(rng.integers(7, 12))
    turn = float(rng.uniform(0, 360))
    order = [inks[i] for i in rng.permutation(len(inks))]
    reach = 2 * side
    for ray in range(rays):
        start = turn + ray * 360 / rays
        colour = ground if ray % 2 else order[ray // 2 % 2]
        canvas.pieslice((x - reach, y - reach, x + reach, y + reach), start, start + 360 / rays, fill=colour)
    radius = side * float(rng.uniform(0.24, 0.34))
    for share, colour in zip((1.0, 0.78, 0.56, 0.34), (order[2], ground, order[3], order[0]), strict=True):
        canvas.ellipse((x - radius * share, y - radius * share, x + radius * share, y + radius * share), fill=colour)


def _terrazzo(canvas: _Canvas, side: int, ground: Colour, inks: list[Colour], rng: np.random.Generator) -> None:
    """Scattered chips of irregular outline."""
    for _ in range(int(rng.integers(80, 130))):
        x, y = rng.uniform(0, side, size=2)
        size = side * float(rng.uniform(0.02, 0.075))
        corners = int(rng.integers(4, 7))
        angles = (np.arange(corners) + rng.uniform(0, 0.6, size=corners)) * 2 * math.pi / corners
        reach = size * rng.uniform(0.6, 1.2, size=corners)
        outline = [(float(x + r * math.cos(a)), float(y + r * math.sin(a))) for a, r in zip(angles, reach, strict=True)]
        canvas.polygon(outline, fill=_ink(inks, rng))


_Drawer = Callable[[_Canvas, int, Colour, list[Colour], np.random.Generator], None]
_DRAWERS: dict[str, _Drawer] = {
    "bauhaus": _bauhaus,
    "deco": _deco,
    "botanical": _botanical,
    "nordic": _nordic,
    "sunburst": _sunburst,
    "terrazzo": _terrazzo,
}
