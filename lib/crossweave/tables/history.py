"""The table history: what every user did with every item, one row a pair: what stages after ingest read."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def pairs_of(interactions: DataFrame) -> DataFrame:
    """Return one row a (user, item) pair, all of whose interactions lie in one split, as the table history has it.

    The latest interaction decides time and weight; of those of one time the one of the largest weight, so that the
    order in which rows lie never does. One without a time comes before all that have one.
    """
    latest = F.max(F.struct("event_time", "weight"))
    pairs = interactions.groupBy("user_id", "item_id", "split").agg(
        F.count("*").alias("events"), F.min("event_time").alias("first_time"), latest.alias("latest")
    )
    return pairs.select("user_id", "item_id", "split", "events", "first_time", "latest.event_time", "latest.weight")


def seen_by_training(history: DataFrame, splits: Collection[str], cold_items: DataFrame | None) -> DataFrame:
    """Return the pairs of these splits that anything which learns may see: none of the items that are withheld.

    `cold_items` has the item_id of those, None under the warm protocol. It is the one definition of it.
    """
    seen = history.where(F.col("split").isin(*splits))
    return seen if cold_items is None else seen.join(cold_items, "item_id", "left_anti")


def events_in(pairs: DataFrame) -> int:
    """Return how many interactions these pairs stand for."""
    return int(pairs.agg(F.sum("events")).collect()[0][0] or 0)
