"""Splits by time and by user: hand-made rows whose parts are known."""

from __future__ import annotations

import datetime

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.errors import InputContractError
from crossweave.tables.splits import (
    Cuts,
    cold_users_split,
    cut_times,
    global_time_split,
    is_drawn,
    leave_last_out_split,
)

SCHEMA = "user_id string, item_id string, event_time timestamp"
Parts = dict[tuple[str, str], str]


def at(day: int, second: int = 0) -> datetime.datetime:
    return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=day - 1, seconds=second)


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """Day 1 to 9; `b` and `c` of user many share a second, `a` comes back later, `n` has no time; two has two items."""
    rows = [
        ("many", "a", at(1)),
        ("many", "b", at(3)),
        ("many", "c", at(3)),
        ("many", "d", at(2)),
        ("many", "n", None),
        ("back", "a", at(1)),
        ("back", "b", at(4)),
        ("back", "c", at(5)),
        ("back", "a", at(9)),
        ("two", "a", at(7)),
        ("two", "b", at(8)),
        ("two", "n", None),
    ]
    return spark.createDataFrame(rows, SCHEMA).cache()


def parts(frame: DataFrame) -> Parts:
    """Return the split of each pair; all rows of a pair must lie in one."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in frame.collect():
        found.setdefault((row["user_id"], row["item_id"]), set()).add(row["split"])
    assert {len(kinds) for kinds in found.values()} == {1}
    return {pair: kinds.pop() for pair, kinds in found.items()}


def reshuffled(frame: DataFrame) -> DataFrame:
    return frame.orderBy(F.desc("item_id")).repartition(7)


def test_the_last_item_of_a_user_is_test_the_one_before_valid_and_ties_go_by_item_id(events: DataFrame) -> None:
    parted = leave_last_out_split(events)
    assert parts(parted) == {
        ("many", "a"): "train",
        ("many", "d"): "train",
        ("many", "b"): "valid",
        ("many", "c"): "test",
        ("many", "n"): "train",
        ("back", "b"): "train",
        ("back", "c"): "valid",
        ("back", "a"): "test",  # both of its rows: taken again on the last day
        ("two", "a"): "train",
        ("two", "b"): "train",
        ("two", "n"): "train",
    }
    assert parted.columns == [*events.columns, "split"]
    assert parted.count() == events.count()
    assert parts(leave_last_out_split(reshuffled(events))) == parts(parted)


def test_two_times_part_everything_and_a_pair_stands_at_its_last_event(events: DataFrame) -> None:
    parted = global_time_split(events, Cuts(at(3), at(7)))
    assert parts(parted) == {
        ("many", "a"): "train",
        ("many", "d"): "train",
        ("many", "b"): "valid",
        ("many", "c"): "valid",
        ("many", "n"): "train",
        ("back", "b"): "valid",
        ("back", "c"): "valid",
        ("back", "a"): "test",
        ("two", "a"): "test",
        ("two", "b"): "test",
        ("two", "n"): "train",
    }
    latest = parted.where("split = 'train'").agg(F.max("event_time").alias("at")).first()
    assert latest is not None
    assert latest["at"] < at(3).replace(tzinfo=None)


def test_a_time_that_is_not_given_cuts_nothing(events: DataFrame) -> None:
    assert set(parts(global_time_split(events, Cuts(at(7), None))).values()) == {"train", "valid"}
    assert set(parts(global_time_split(events, Cuts(None, None))).values()) == {"train"}


def test_cut_times_leave_the_shares_of_the_pairs_behind_them_whatever_the_partitions(events: DataFrame) -> None:
    # Nine pairs have a time: days 1, 2, 3, 3, 4, 5, 7, 8, 9.
    assert cut_times(events, 0.3, 0.25) == Cuts(at(5), at(8))  # 4 and 2 of 9 pairs, rounded down
    assert cut_times(reshuffled(events), 0.3, 0.25) == Cuts(at(5), at(8))
    assert cut_times(events, 0.0, 0.0) == Cuts(None, None)
    assert cut_times(events, 0.2, 0.0) == Cuts(at(9), None)
    assert cut_times(events, 0.0, 0.7) == Cuts(at(3), at(3))  # pairs of one second never part


def test_cut_times_are_exact_to_the_second_within_an_hour(spark: SparkSession) -> None:
    rows = [("u", f"i{n}", at(1, n)) for n in range(100)]
    assert cut_times(spark.createDataFrame(rows, SCHEMA), 0.1, 0.1) == Cuts(at(1, 80), at(1, 90))


def test_without_any_time_nothing_can_be_cut(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("u", "i", None)], SCHEMA)
    with pytest.raises(InputContractError, match="no interaction has a time"):
        cut_times(frame, 0.1, 0.1)


def test_all_that_a_cold_user_did_is_test_and_the_others_keep_their_random_split(spark: SparkSession) -> None:
    frame = spark.range(4000).select(
        F.concat(F.lit("u"), (F.col("id") / 20).cast("int")).alias("user_id"),
        F.concat(F.lit("i"), F.col("id") % 20).alias("item_id"),
    )
    found = parts(cold_users_split(frame, 0.1, 0.2, seed=3))
    by_user: dict[str, set[str]] = {}
    for (user, _), split in found.items():
        by_user.setdefault(user, set()).add(split)
    cold = {user for user, kinds in by_user.items() if kinds == {"test"}}
    assert 25 <= len(cold) <= 55  # of 200, each drawn for itself
    assert all(kinds == {"train", "valid"} for user, kinds in by_user.items() if user not in cold)
    assert sum(split == "valid" for split in found.values()) == 2 * (200 - len(cold))
    assert parts(cold_users_split(reshuffled(frame), 0.1, 0.2, seed=3)) == found
    assert parts(cold_users_split(frame, 0.1, 0.2, seed=4)) != found
    without_u7 = cold_users_split(frame.where("user_id <> 'u7'"), 0.1, 0.2, seed=3)
    assert parts(without_u7) == {pair: split for pair, split in found.items() if pair[0] != "u7"}


def test_a_draw_depends_on_seed_and_purpose(spark: SparkSession) -> None:
    frame = spark.range(1000).select(F.col("id").cast("string").alias("item_id"))
    drawn = {
        (seed, what): {r["item_id"] for r in frame.where(is_drawn(0.2, seed, what, "item_id")).collect()}
        for seed, what in ((1, "cold items"), (2, "cold items"), (1, "cold users"))
    }
    assert all(150 <= len(found) <= 250 for found in drawn.values())
    assert len({frozenset(found) for found in drawn.values()}) == 3
    assert frame.where(is_drawn(0.0, 1, "cold items", "item_id")).isEmpty()
