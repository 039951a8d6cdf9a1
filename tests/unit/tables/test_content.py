"""Contents: what an encoder will see, what counts as empty, and hashes that follow the content and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from crossweave.tables.content import change_hash, content_hash, content_value, is_empty

TYPES = {"text": "string", "image": "binary", "audio": "binary", "tags": "array<string>", "vector": "array<float>"}
DECOMPOSED = "a\u0301"
DISTINCT: dict[str, list] = {
    "text": ["a", "b", "a ", "A", "á", DECOMPOSED, "Zażółć 🎬", "Spark"],
    "image": [b"a", b"b", b"a\x00", b"\x00a", b"aa", b"\xff", b"\xff\xd8\x00"],
    "audio": [b"RIFF", b"fLaC"],
    "tags": [["a", "b"], ["b", "a"], ["ab"], ["a,b"], ["a"], ['a","b'], ["null"]],
    "vector": [[0.5, 1.0], [1.0, 0.5], [0.5], [0.5, 1.0, 0.0], [0.5, 1.0000001], [-0.5, 1.0]],
}
"""Contents that hold something, all different."""

EMPTY: dict[str, list] = {
    "text": ["", "   "],
    "image": [b""],
    "audio": [b""],
    "tags": [[], [""], ["  ", None], [None]],
    "vector": [[]],
}


def columns(*names: str) -> dict[str, Column]:
    return {name: F.col(name) for name in names}


@dataclass(frozen=True)
class Seen:
    """What the expressions made of one content."""

    empty: bool | None
    change: int
    content: str | None


@pytest.fixture(scope="module")
def seen(spark: SparkSession) -> dict[str, list[Seen]]:
    """By kind: the distinct contents, the first of them once more, the empty ones, and a missing one."""
    found = {}
    for kind, type_name in TYPES.items():
        values = [*DISTINCT[kind], DISTINCT[kind][0], *EMPTY[kind], None]
        frame = spark.createDataFrame(list(enumerate(values)), f"n int, value {type_name}")
        value = content_value(kind, {"value": F.col("value")})
        rows = frame.select("n", is_empty(kind, value), change_hash(kind, value), content_hash(kind, value)).collect()
        found[kind] = [Seen(*tuple(row)[1:]) for row in sorted(rows)]
    return found


def of(seen: dict[str, list[Seen]], kind: str, value: object) -> Seen:
    return seen[kind][DISTINCT[kind].index(value)]


def test_text_columns_are_joined_by_line_breaks_without_the_blank_ones(spark: SparkSession) -> None:
    rows = [
        ("Title", "Plot", "Title\nPlot"),
        ("Title", None, "Title"),
        (None, "Plot", "Plot"),
        ("Title", "   ", "Title"),
        (" Title ", "", " Title "),  # what is kept is kept as it is
        (None, None, None),
        ("", None, ""),
        ("  ", "", ""),
    ]
    frame = spark.createDataFrame([(n, *row) for n, row in enumerate(rows)], "n int, a string, b string, wanted string")
    joined = frame.select("n", "wanted", content_value("text", columns("a", "b")).alias("got")).orderBy("n").collect()
    assert [row["got"] for row in joined] == [row["wanted"] for row in joined]


def test_the_order_of_text_columns_is_that_of_the_settings(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("x", "y")], "a string, b string")
    assert frame.select(content_value("text", columns("b", "a"))).collect()[0][0] == "y\nx"


@pytest.mark.parametrize("kind", TYPES)
def test_a_content_that_is_there_but_holds_nothing_is_empty_and_a_missing_one_is_neither(
    seen: dict[str, list[Seen]], kind: str
) -> None:
    full, empty = len(DISTINCT[kind]) + 1, len(EMPTY[kind])
    assert [row.empty for row in seen[kind]] == [False] * full + [True] * empty + [None]


def test_the_content_hash_of_text_and_bytes_is_the_sha_256_of_their_bytes(seen: dict[str, list[Seen]]) -> None:
    text, picture = "Zażółć 🎬", b"\xff\xd8\x00"
    assert of(seen, "text", text).content == hashlib.sha256(text.encode()).hexdigest()
    assert of(seen, "image", picture).content == hashlib.sha256(picture).hexdigest()


def test_the_content_hash_of_a_list_is_the_sha_256_of_its_json(seen: dict[str, list[Seen]]) -> None:
    assert of(seen, "tags", ['a","b']).content == hashlib.sha256(b'["a\\",\\"b"]').hexdigest()
    assert of(seen, "vector", [0.5, 1.0]).content == hashlib.sha256(b"[0.5,1.0]").hexdigest()


@pytest.mark.parametrize("kind", TYPES)
def test_equal_contents_share_both_hashes_and_different_ones_do_not(seen: dict[str, list[Seen]], kind: str) -> None:
    distinct, again = seen[kind][: len(DISTINCT[kind])], seen[kind][len(DISTINCT[kind])]
    assert again == distinct[0]
    assert len({row.change for row in distinct}) == len({row.content for row in distinct}) == len(distinct)
    assert {len(row.content or "") for row in distinct} == {64}


def test_hashes_do_not_follow_the_partition_the_neighbours_or_the_columns_a_text_came_from(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(str(n % 3), None) for n in range(30)], "a string, b string").repartition(5)
    one, other = content_value("text", columns("a", "b")), content_value("text", columns("b", "a"))
    rows = frame.select(
        "a", content_hash("text", one), content_hash("text", other), change_hash("text", one)
    ).distinct()
    assert sorted(row[0] for row in rows.collect()) == ["0", "1", "2"]
    assert all(row[1] == row[2] for row in rows.collect())


def test_the_change_hash_is_stable_from_night_to_night(seen: dict[str, list[Seen]]) -> None:
    assert of(seen, "text", "Spark").change == -4294468057691064905


@pytest.mark.parametrize("kind", TYPES)
def test_a_missing_content_has_no_content_hash(seen: dict[str, list[Seen]], kind: str) -> None:
    assert seen[kind][-1].content is None
    assert all(row.content is not None for row in seen[kind][:-1])


def test_a_list_without_its_value_is_told_apart_from_a_list_of_its_word(seen: dict[str, list[Seen]]) -> None:
    nothing, null = len(DISTINCT["tags"]) + 1, len(DISTINCT["tags"]) + 4
    hashes = {of(seen, "tags", ["null"]).content, seen["tags"][nothing].content, seen["tags"][null].content}
    assert len(hashes) == 3


def test_the_change_hash_sees_an_element_become_null(spark: SparkSession) -> None:
    frame = spark.createDataFrame([([0.5, 1.0],), ([0.5, None, 1.0],)], "value array<float>")
    assert frame.select(change_hash("vector", F.col("value"))).distinct().count() == 2
