"""Curves and columns as a few numbers of SVG, for a page that is drawn at the end of every run: no matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, EDGE = 300, 80, 5
"""Of the drawing, which the page stretches to its own width."""
DOTS = 60
"""Up to so many points are marked one by one, else the last."""

Point = tuple[float, float | None, float | None]
"""Value, low and high end of its interval."""


@dataclass(frozen=True)
class Curve:
    """What `points` and `d` of SVG take; empty where there is nothing to draw."""

    band: str  # a polygon: the intervals
    line: str  # a polyline
    dots: str  # a path of strokes without length, which round caps make dots


def curve(points: Sequence[Point]) -> Curve:
    """Draw one curve from left to right, with the intervals of the points that have one."""
    ends = [end for point in points for end in point if end is not None]
    if not ends:
        return Curve("", "", "")
    below, above = min(ends), max(ends)
    span = (above - below) or 1.0

    def y(value: float) -> float:
        return round(HEIGHT - EDGE - (value - below) / span * (HEIGHT - 2 * EDGE), 1)

    step = (WIDTH - 2 * EDGE) / max(1, len(points) - 1)
    at = [(round(EDGE + place * step, 1), *point) for place, point in enumerate(points)]
    known = [(x, low, high) for x, _, low, high in at if low is not None and high is not None]
    rim = [(x, y(high)) for x, _, high in known] + [(x, y(low)) for x, low, _ in reversed(known)]
    line = [(x, y(value)) for x, value, _, _ in at]
    marked = line if len(line) <= DOTS else line[-1:]
    return Curve(_pairs(rim), _pairs(line), "".join(f"M{x:g} {height:g}h0" for x, height in marked))


def columns(stacks: Sequence[Sequence[float]]) -> list[list[tuple[float, float, float, float]]]:
    """Draw a column for each stack from left to right; returns x, y, width and height of each of its parts."""
    top = max((sum(stack) for stack in stacks), default=0.0) or 1.0
    step = WIDTH / max(12, len(stacks))  # a few nights are no broad blocks
    found = []
    for place, stack in enumerate(stacks):
        parts, level = [], float(HEIGHT)
        for value in stack:
            height = value / top * HEIGHT
            level -= height
            parts.append((round(place * step, 2), round(level, 2), round(0.85 * step, 2), round(height, 2)))
        found.append(parts)
    return found


def _pairs(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
