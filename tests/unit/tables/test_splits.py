"""Splits: seeded, per user, and never a (user, item) pair in two of them."""

from __future__ import annotations

from collections import Counter

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.tables.splits import random_split, split_order


@pytest.fixture(scope="module")
def interactions(spark: SparkSession) -> DataFrame:
    """Users u1, u5, u10 and u40 with as many items as their names say; every third pair has two rows."""
    rows = [
        (f"u{n}", f"i{i}", float(copy))
        for n in (1, 5, 10, 40)
        for i in range(n)
        for copy in range(2 if i % 3 == 0 else 1)
    ]
    return spark.createDataFrame(rows, "user_id string, item_id string, weight double").cache()


def splits(frame: DataFrame) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for row in frame.collect():
        found.setdefault((row["user_id"], row["item_id"]), set()).add(row["split"])
    return found


def test_each_user_s_items_are_parted_by_the_fractions_rounded_down(interactions: DataFrame) -> None:
    parted = splits(random_split(interactions, 0.1, 0.2, seed=1))
    counts = Counter((user, *kinds) for (user, _), kinds in parted.items())
    assert counts == {
        ("u1", "train"): 1,
        ("u5", "test"): 1,
        ("u5", "train"): 4,
        ("u10", "test"): 2,
        ("u10", "valid"): 1,
        ("u10", "train"): 7,
        ("u40", "test"): 8,
        ("u40", "valid"): 4,
        ("u40", "train"): 28,
    }


def test_all_rows_of_a_pair_stay_in_one_split_and_none_is_lost(interactions: DataFrame) -> None:
    parted = random_split(interactions, 0.3, 0.3, seed=1)
    assert {len(kinds) for kinds in splits(parted).values()} == {1}
    assert parted.count() == interactions.count() == 77
    assert parted.columns == ["user_id", "item_id", "weight", "split"]


def test_the_same_seed_gives_the_same_split_however_the_rows_lie(interactions: DataFrame) -> None:
    first = splits(random_split(interactions, 0.2, 0.2, seed=7))
    again = splits(random_split(interactions.orderBy(F.desc("item_id")).repartition(7), 0.2, 0.2, seed=7))
    other = splits(random_split(interactions, 0.2, 0.2, seed=8))
    assert first == again
    assert first != other


def test_a_fraction_of_nothing_leaves_everything_in_train(interactions: DataFrame) -> None:
    assert set(map(tuple, splits(random_split(interactions, 0.0, 0.0, seed=1)).values())) == {("train",)}


def test_splits_are_ordered_from_the_past_to_the_future(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("test",), ("train",), ("valid",)], "split string")
    assert [r["split"] for r in frame.orderBy(split_order(F.col("split"))).collect()] == ["train", "valid", "test"]
