"""The map of item vectors and the retrieval examples, as rows and geometry for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossweave.evaluation.colours import PALETTE
from crossweave.evaluation.pictures import thumbnail_data_uri
from crossweave.evaluation.report_content import EmbeddingMap, FoundPicture, MapPoint, Retrieval

COLOURS, OTHER_COLOUR = PALETTE[:-1], PALETTE[-1]
SHAPES = ("circle", "square", "diamond", "triangle")
OTHERS, UNKNOWN = "others", "not known"
MAP_SIDE, MAP_QUALITY = 72, 60  # pixels of a picture on the map, and its WebP quality
MAP_BYTES = 1_200_000  # of all pictures on the map as they stand in the page; later items go without


@dataclass(frozen=True)
class Category:
    """A category of the map, told apart by colour and by shape: not everybody sees colours."""

    name: str
    colour: str
    shape: str
    titles: list[str]


@dataclass(frozen=True)
class MapView:
    """The map as the page draws it; a point is (its category's place, left and top in percent, item, picture)."""

    categories: list[Category]
    points: list[tuple[int, float, float, MapPoint, str | None]]
    pictures: int
    content: EmbeddingMap


def map_view(content: EmbeddingMap | None) -> MapView | None:
    """Name the largest categories one by one, the rest together, and shrink pictures until their bytes are spent."""
    if content is None or not content.points:
        return None
    titles: dict[str, list[str]] = {}
    names = _names(content.points)
    for name, point in zip(names, content.points, strict=True):
        titles.setdefault(name, []).append(point.title)
    order = sorted(titles, key=lambda name: (name in (OTHERS, UNKNOWN), name == UNKNOWN, -len(titles[name]), name))
    categories = [_category(name, place, titles[name]) for place, name in enumerate(order)]
    left_over, points = MAP_BYTES, []
    for name, point in zip(names, content.points, strict=True):
        uri = thumbnail_data_uri(point.picture, MAP_SIDE, MAP_QUALITY, "WEBP") if left_over > 0 else None
        left_over -= len(uri or "")
        points.append((order.index(name), _percent(point.x), _percent(point.y), point, uri))
    return MapView(categories, points, sum(uri is not None for *_, uri in points), content)


def most_telling(columns: Sequence[Sequence[str]]) -> int | None:
    """Return the place of the column whose largest values, one a colour, cover most items; None where none tells any.

    Empty texts are unknown; a column of a single value tells nothing.
    """
    counts = [Counter(value for value in column if value).most_common(len(COLOURS)) for column in columns]
    covered = [sum(n for _, n in largest) if len(largest) > 1 else 0 for largest in counts]
    return covered.index(max(covered)) if any(covered) else None


def _names(points: Sequence[MapPoint]) -> list[str]:
    """Return what each point's category is called on the map."""
    counts = Counter(point.category for point in points if point.category)
    largest = sorted(counts, key=lambda name: (-counts[name], name))
    named = set(largest if len(largest) <= len(COLOURS) else largest[: len(COLOURS) - 1])
    return [UNKNOWN if not p.category else p.category if p.category in named else OTHERS for p in points]


def _category(name: str, place: int, titles: list[str]) -> Category:
    if name in (OTHERS, UNKNOWN):
        return Category(name, OTHER_COLOUR, "ring" if name == UNKNOWN else "circle", titles)
    return Category(name, COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)], titles)


def _percent(share: float) -> float:
    return round(2.0 + 96.0 * min(max(share, 0.0), 1.0), 2)  # marks at the rim stay inside


@dataclass(frozen=True)
class ExampleView:
    """A text, the pictures that it found, and its own one where that is not among them."""

    title: str
    text: str
    own_rank: int
    found: list[tuple[FoundPicture, str | None]]
    own: tuple[FoundPicture, str | None] | None


def example_views(content: Retrieval | None, thumbnail: Callable[[bytes | None], str | None]) -> list[ExampleView]:
    """Return the examples with thumbnails."""
    return [
        ExampleView(
            example.title,
            example.text,
            example.own_rank,
            [(picture, thumbnail(picture.picture)) for picture in example.found],
            None if any(p.own for p in example.found) else (example.own, thumbnail(example.own.picture)),
        )
        for example in (content.examples if content is not None else ())
    ]
