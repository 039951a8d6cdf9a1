"""Rows and geometry of the map."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from crossweave.evaluation import report_spaces
from crossweave.evaluation.report_content import EmbeddingMap, MapPoint
from crossweave.evaluation.report_spaces import COLOURS, OTHERS, UNKNOWN, map_view, most_telling


def noise(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def of(*categories: str) -> EmbeddingMap:
    return EmbeddingMap([MapPoint(0.5, 0.5, f"item {n}", name) for n, name in enumerate(categories)], 99)


def test_the_largest_categories_are_named_the_rest_is_others_and_unknown_comes_last() -> None:
    many = [name for place, name in enumerate("abcdefghi") for _ in range(20 - place)]
    view = map_view(of("", *many))
    assert view is not None
    assert [c.name for c in view.categories] == [*"abcdef", OTHERS, UNKNOWN]
    assert [len(c.titles) for c in view.categories] == [20, 19, 18, 17, 16, 15, 14 + 13 + 12, 1]
    assert len({(c.colour, c.shape) for c in view.categories}) == 8  # each has a look of its own
    assert len({c.colour for c in view.categories[:6]}) == 6


def test_as_many_categories_as_colours_are_all_named() -> None:
    view = map_view(of(*"abcdefg"))
    assert view is not None and len("abcdefg") == len(COLOURS)
    assert [c.name for c in view.categories] == [*"abcdefg"]


def test_pictures_stop_where_their_bytes_are_spent(monkeypatch) -> None:
    monkeypatch.setattr(report_spaces, "MAP_BYTES", 20_000)
    points = [MapPoint(0.1, 0.1, "", "", noise(n)) for n in range(30)]
    view = map_view(EmbeddingMap(points, 30))
    assert view is not None
    sizes = [len(uri) for *_, uri in view.points if uri is not None]
    assert 2 <= len(sizes) == view.pictures < 30
    assert sum(sizes) - sizes[-1] < 20_000 <= sum(sizes)


def test_places_stay_inside_the_map_and_nothing_gives_no_map() -> None:
    view = map_view(EmbeddingMap([MapPoint(-1, 2, "far"), MapPoint(0.25, 0.5, "in")], 2))
    assert view is not None
    assert [(x, y) for _, x, y, *_ in view.points] == [(2.0, 98.0), (26.0, 50.0)]
    assert map_view(None) is None and map_view(EmbeddingMap((), 5)) is None


def test_the_column_that_tells_most_colours_the_map() -> None:
    same, own, genre, gaps = ["x"] * 12, [*"abcdefghijkl"], [*"aabbccaabbcc"], [*"aab", *[""] * 9]
    assert most_telling([same, own, gaps, genre]) == 3
    assert most_telling([genre, genre]) == 0
    assert most_telling([same, [""] * 12]) is None
    assert most_telling([]) is None
