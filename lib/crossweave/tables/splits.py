"""Parts interactions into train, valid and test; all rows of a (user, item) pair fall into one split."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from crossweave.errors import InputContractError

DRAWS = 2**31
HOUR = 3600


@dataclass(frozen=True)
class Cuts:
    """The two times, in UTC, that part interactions: train before, valid between, test after; None: nothing after."""

    valid_from: datetime.datetime | None
    test_from: datetime.datetime | None


def random_split(interactions: DataFrame, valid_fraction: float, test_fraction: float, seed: int) -> DataFrame:
    """Add `split` by a seeded order of each user's distinct items; fractions are of those items, rounded down."""
    by_user = Window.partitionBy("user_id")
    order = F.xxhash64(F.lit(seed), "user_id", "item_id")
    position = F.dense_rank().over(by_user.orderBy(order, "item_id"))
    ranked = interactions.withColumn("_position", position).withColumn("_pairs", F.max("_position").over(by_user))
    test_until = F.floor(F.col("_pairs") * test_fraction)
    valid_until = F.floor(F.col("_pairs") * (valid_fraction + test_fraction))
    split = (
        F.when(F.col("_position") <= test_until, "test")
        .when(F.col("_position") <= valid_until, "valid")
        .otherwise("train")
    )
    return ranked.withColumn("split", split).drop("_position", "_pairs")


def leave_last_out_split(interactions: DataFrame) -> DataFrame:
    """Add `split`: each user's last item is test, the one before it valid, all others train.

    An item stands at its latest event_time; of items with one time the greater id is the later. Items without a time
    are train, and so is everything of a user with fewer than 3 items that have one.
    """
    by_user = Window.partitionBy("user_id")
    placed = interactions.withColumn("_last", _last_time())
    position = F.dense_rank().over(by_user.orderBy(F.desc_nulls_last("_last"), F.desc("item_id")))
    placed = placed.withColumn("_position", position)
    timed = F.max(F.when(F.col("_last").isNotNull(), F.col("_position"))).over(by_user)
    placed = placed.withColumn("_timed", F.coalesce(timed, F.lit(0)))
    split = (
        F.when(F.col("_timed") < 3, "train")
        .when(F.col("_position") == 1, "test")
        .when(F.col("_position") == 2, "valid")
        .otherwise("train")
    )
    return placed.withColumn("split", split).drop("_last", "_position", "_timed")


def global_time_split(interactions: DataFrame, cuts: Cuts) -> DataFrame:
    """Add `split` by two times; a (user, item) pair stands at its latest event_time, without one it is train."""
    placed = interactions.withColumn("_last", F.unix_micros(_last_time()))
    split = (
        F.when(F.col("_last") >= _micros(cuts.test_from), "test")
        .when(F.col("_last") >= _micros(cuts.valid_from), "valid")
        .otherwise("train")
    )
    return placed.withColumn("split", split).drop("_last")


def cut_times(interactions: DataFrame, valid_fraction: float, test_fraction: float) -> Cuts:
    """Return the times after which these shares of the (user, item) pairs lie, rounded down, at whole seconds.

    Pairs of one second never part: all of the second that a cut falls into lie after it. Pairs without a time do not
    count. Exact, and the same however the rows lie. Raises InputContractError where no pair has a time.
    """
    last = F.unix_seconds(F.max("event_time")).alias("second")
    pairs = interactions.groupBy("user_id", "item_id").agg(last).where("second is not null")
    hours, until = _running(pairs, F.floor(F.col("second") / HOUR))
    if not len(hours):
        raise InputContractError(
            "no interaction has a time, so none can be held out by it", "check inputs.interactions.time, its column"
        )
    total = int(until[-1])
    wanted = [total - int(total * share) for share in (valid_fraction + test_fraction, test_fraction)]
    found: list[datetime.datetime | None] = []
    for place in wanted:  # two levels: the hour, then the second in it, so that the driver sees few rows
        if place >= total:
            found.append(None)
            continue
        hour = int(np.searchsorted(until, place, side="right"))
        within = pairs.where(F.floor(F.col("second") / HOUR) == int(hours[hour]))
        seconds, counted = _running(within, F.col("second"))
        before = int(until[hour - 1]) if hour else 0
        second = int(seconds[np.searchsorted(counted, place - before, side="right")])
        found.append(datetime.datetime.fromtimestamp(second, datetime.UTC))
    return Cuts(*found)


def cold_users_split(interactions: DataFrame, valid_fraction: float, test_share: float, seed: int) -> DataFrame:
    """Add `split`: everything of a drawn share of the users is test; of the others, valid and train as `random_split`.

    Who is drawn depends on the seed and the user's id alone: a user stays drawn whoever comes or goes.
    """
    parted = random_split(interactions, valid_fraction, 0.0, seed)
    drawn = is_drawn(test_share, seed, "cold users", "user_id")
    return parted.withColumn("split", F.when(drawn, "test").otherwise(F.col("split")))


def is_drawn(share: float, seed: int, what: str, column: str) -> Column:
    """Say whether a value is among a share drawn by seed and purpose: each for itself, so the share holds roughly."""
    return F.pmod(F.xxhash64(F.lit(seed), F.lit(what), column), F.lit(DRAWS)) < F.lit(int(share * DRAWS))


def split_order(split: Column) -> Column:
    """Order splits from the past to the future: train, valid, test."""
    return F.when(split == "train", 0).when(split == "valid", 1).otherwise(2)


def _last_time() -> Column:
    return F.max("event_time").over(Window.partitionBy("user_id", "item_id"))


def _micros(time: datetime.datetime | None) -> Column:
    """Return a time as microseconds since 1970; without one null, which nothing lies after."""
    if time is None:
        return F.lit(None).cast("bigint")
    since = time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return F.lit(since // datetime.timedelta(microseconds=1)).cast("bigint")


def _running(rows: DataFrame, key: Column) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct keys, rising, and how many rows have this key or a lesser one; int64."""
    counts = rows.groupBy(key.alias("key")).count().orderBy("key").collect()
    return np.array([r["key"] for r in counts], np.int64), np.cumsum([r["count"] for r in counts], dtype=np.int64)
