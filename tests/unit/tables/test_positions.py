"""Positions: rows are counted from 0 without gaps in the order given, over any number of partitions."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from crossweave.tables.positions import with_position


@pytest.mark.parametrize("partitions", [1, 3, 9])
def test_rows_are_counted_from_0_without_gaps_in_the_given_order(
    spark: SparkSession, tmp_path: Path, partitions: int
) -> None:
    ids = [f"item {(n * 37) % 101:03}" for n in range(101)]
    frame = spark.createDataFrame([(i, i[-1]) for i in ids], "item_id string, other string").repartition(partitions)
    numbered = with_position(spark, frame, [F.col("item_id")], "position", tmp_path / "staging")
    assert numbered.columns == ["item_id", "other", "position"]
    found = {row["position"]: (row["item_id"], row["other"]) for row in numbered.collect()}
    assert found == {n: (f"item {n:03}", f"{n % 10}") for n in range(101)}


def test_the_sort_is_really_spread_over_several_partitions(spark: SparkSession, tmp_path: Path) -> None:
    adaptive = spark.conf.get("spark.sql.adaptive.coalescePartitions.enabled")
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
    try:
        frame = spark.range(1000).select((999 - F.col("id")).alias("id"))
        numbered = with_position(spark, frame, [F.col("id")], "position", tmp_path / "staging")
        rows = numbered.collect()
    finally:
        spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", adaptive)
    assert len(list((tmp_path / "staging").glob("part-*.parquet"))) >= 3
    assert sorted((row["position"], row["id"]) for row in rows) == [(n, n) for n in range(1000)]


def test_an_order_may_run_down_and_over_several_columns(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame([("a", 1), ("b", 2), ("c", 2), ("d", 3)], "name string, size int")
    numbered = with_position(spark, frame, [F.desc("size"), F.col("name")], "place", tmp_path / "staging")
    assert {row["name"]: row["place"] for row in numbered.collect()} == {"d": 0, "b": 1, "c": 2, "a": 3}


def test_positions_are_the_same_each_time_they_are_read(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.range(50).withColumn("draw", F.rand())  # drawn anew in every reading of the frame itself
    numbered = with_position(spark, frame, [F.col("draw")], "position", tmp_path / "staging")
    first, second = ({row["id"]: row["position"] for row in numbered.collect()} for _ in range(2))
    assert first == second
    assert sorted(first.values()) == list(range(50))


def test_no_rows_have_no_positions(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame([], "item_id string")
    numbered = with_position(spark, frame, [F.col("item_id")], "position", tmp_path / "staging")
    assert numbered.collect() == []
    assert numbered.columns == ["item_id", "position"]


def test_one_row_has_position_0(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame([("a",)], "item_id string")
    numbered = with_position(spark, frame, [F.col("item_id")], "position", tmp_path / "staging")
    assert [tuple(row) for row in numbered.collect()] == [("a", 0)]
