"""Texts in another encoding than UTF-8: found in every column that is read as text, at any depth, and nowhere else."""

from __future__ import annotations

import datetime

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.tables.events import EventColumns, judged_blocks, judged_interactions, judged_users
from crossweave.tables.item_rows import ItemColumns, scan
from crossweave.tables.paths import inner_name
from crossweave.tables.source import FILE, ROW
from crossweave.tables.values import misread, text_of

GOOD, CUT, LATIN = "café ü 😀", b"caf\xc3", b"caf\xe9"
"""Text, text cut in the middle of a letter, and text in latin-1."""


def table(spark: SparkSession, **columns: F.Column) -> DataFrame:
    """Return one row of a user's columns as an input table gives them."""
    named = [value.alias(inner_name(name)) for name, value in columns.items()]
    return spark.range(1).select(*named, F.lit("a.parquet").alias(FILE), F.lit(0).cast("bigint").alias(ROW))


def raw(value: bytes | str) -> F.Column:
    """Return bytes that Spark takes for a string, as it takes those of a Parquet file."""
    return F.lit(value.encode() if isinstance(value, str) else value).cast("string")


@pytest.mark.parametrize("bad", [LATIN, CUT, b"\xff\x00"])
def test_a_text_is_found_at_any_depth_and_reads_with_a_mark_in_its_place(spark: SparkSession, bad: bytes) -> None:
    shapes = {
        "plain": lambda text: text,
        "list": lambda text: F.array(F.lit("x"), text),
        "key": lambda text: F.create_map(text, F.lit(1)),
        "value": lambda text: F.create_map(F.lit("x"), text),
        "struct": lambda text: F.struct(F.lit(1).alias("n"), F.array(F.struct(text.alias("t"))).alias("deep")),
        "bytes": lambda text: text.cast("binary"),
    }
    for text, expected in ((bad, True), (GOOD, False)):
        rows = table(spark, **{name: shape(raw(text)) for name, shape in shapes.items()})
        found = rows.select(*[misread(rows, [name]).alias(name) for name in shapes]).collect()[0]
        assert found.asDict() == dict.fromkeys(shapes, expected)
        assert not rows.select(misread(rows, ["bytes"], binary=False)).collect()[0][0]
    rows = table(spark, plain=raw(bad), bytes=raw(bad).cast("binary"))
    assert {*rows.select(text_of(rows, "plain"), text_of(rows, "bytes")).collect()[0]} == {bad.decode(errors="replace")}


def test_numbers_dates_and_nulls_are_no_texts(spark: SparkSession) -> None:
    day = F.lit(datetime.date(2026, 1, 2))
    rows = table(spark, n=F.lit(7), day=day, none=F.lit(None).cast("string"), nones=F.array(F.lit(None).cast("string")))
    assert not rows.select(misread(rows, ["n", "day", "none", "nones"])).collect()[0][0]
    assert rows.select(text_of(rows, "n"), text_of(rows, "day"), text_of(rows, "none")).collect()[0] == (
        "7",
        "2026-01-02",
        None,
    )


@pytest.mark.parametrize("bad", ["user", "item"])
def test_events_and_blocks_with_such_an_id_are_refused_for_it(spark: SparkSession, bad: str) -> None:
    columns = {"user": raw("u1"), "item": raw("i1")} | {bad: raw(LATIN)}
    rows = table(spark, **columns, at=F.lit("2025-01-01"))
    items = spark.createDataFrame([("i1",)], "item_id string")
    users = spark.createDataFrame([("u1",)], "user_id string")
    latest = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    events = judged_interactions(rows, items, EventColumns("user", "item", time="at"), latest).collect()
    blocks = judged_blocks(rows, items, users, user="user", item="item").collect()
    for (row,) in (events, blocks):
        assert (row["reason"], row[f"{bad}_id"]) == ("not_utf8", "caf�")
    assert events[0]["said"] is None  # it would stand in warnings and logs, which hold no user's id


def test_a_user_with_such_an_id_or_attribute_is_refused_and_others_are_not(spark: SparkSession) -> None:
    rows = table(spark, user=raw("u1"), age=raw(CUT))
    assert [row["reason"] for row in judged_users(rows, "user", ["age"]).collect()] == ["not_utf8"]
    assert [row["reason"] for row in judged_users(rows, "user", []).collect()] == [None]


@pytest.mark.parametrize("bad", ["id", "title", "brand", "tags"])
def test_an_item_is_refused_for_its_own_texts_and_of_its_contents_each_alone(spark: SparkSession, bad: str) -> None:
    texts = {name: raw(LATIN if name == bad else GOOD) for name in ("id", "title", "brand", "text")}
    tags, picture = F.array(raw(LATIN if bad == "tags" else GOOD)), F.lit(LATIN)
    rows = table(spark, **texts, tags=tags, picture=picture)
    read = {"words": ("text", ["text", "title"]), "tags": ("tags", ["tags"]), "picture": ("image", ["picture"])}
    (row,) = scan(rows, ItemColumns("id", "title", None, ["brand"], None, read), None).collect()
    assert (row["refused"] == "not_utf8") == (bad != "tags")
    refused = {name: cell["refused"] for name, cell in row["cells"].items()}
    assert refused == {
        "words": "not_utf8" if bad == "title" else None,
        "tags": "not_utf8" if bad == "tags" else None,
        "picture": None,
    }
    assert {name for name, cell in row["cells"].items() if cell["content"] is None} == {
        n for n in refused if refused[n]
    }
