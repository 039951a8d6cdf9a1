"""Interactions, users and blocks as they are judged: mapped to our columns, and refused for a named reason."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from crossweave.tables.source import FILE, ROW
from crossweave.tables.splits import split_order
from crossweave.tables.values import as_strings, as_time, with_refusal


def judged_interactions(
    source: DataFrame,
    items: DataFrame,
    *,
    user: str,
    item: str,
    weight: str | None,
    time: str | None,
    split: str | None,
) -> DataFrame:
    """Return user_id, item_id, weight, event_time, split, file, row and `reason` (null: accepted) of every row.

    `items` holds the known item ids. With a split column, a pair belongs to the first of its splits.
    """
    weighed = F.coalesce(F.col(weight).cast("float"), F.lit(1.0)) if weight else F.lit(1.0)
    rows = source.select(
        F.col(user).cast("string").alias("user_id"),
        F.col(item).cast("string").alias("item_id"),
        weighed.cast("float").alias("weight"),
        as_time(source, time).alias("event_time"),
        (F.col(split) if split else F.lit("train")).alias("split"),
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
    )
    known = items.select("item_id", F.lit(True).alias("known"))
    finite = ~F.isnan("weight") & (F.abs("weight") < float("inf"))
    blank = (F.trim("user_id") == "") | (F.trim("item_id") == "")
    reason = (
        F.when(F.coalesce(blank, F.lit(True)), "null_id")
        .when(F.col("known").isNull(), "unknown_item")
        .when(~finite, "non_finite")
        .when(~F.coalesce(F.col("split").isin("train", "valid", "test"), F.lit(False)), "unknown_split")
    )
    judged = rows.join(known, "item_id", "left").withColumn("reason", reason).drop("known")
    if split:
        pair = Window.partitionBy("user_id", "item_id")
        first = F.min(F.when(F.col("reason").isNull(), split_order(F.col("split")))).over(pair)
        later = F.col("reason").isNull() & (split_order(F.col("split")) > first)
        judged = judged.withColumn("reason", F.when(later, "pair_in_two_splits").otherwise(F.col("reason")))
    return judged


def judged_users(source: DataFrame, user: str, attributes: Sequence[str]) -> DataFrame:
    """Return user_id, attributes, file, row and `reason` (null: accepted) of every row."""
    rows = source.select(
        F.col(user).cast("string").alias("user_id"),
        as_strings(source, attributes).alias("attributes"),
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
    )
    return with_refusal(rows, "user_id", "reason")


def judged_blocks(source: DataFrame, items: DataFrame, users: DataFrame, *, user: str, item: str) -> DataFrame:
    """Return user_id, item_id, file, row and `reason` (null: accepted) of every row.

    `items` and `users` hold the known ids, each once.
    """
    rows = source.select(
        F.col(user).cast("string").alias("user_id"),
        F.col(item).cast("string").alias("item_id"),
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
    )
    rows = rows.join(items.select("item_id", F.lit(True).alias("has_item")), "item_id", "left")
    rows = rows.join(users.select("user_id", F.lit(True).alias("has_user")), "user_id", "left")
    blank = (F.trim("user_id") == "") | (F.trim("item_id") == "")
    reason = (
        F.when(F.coalesce(blank, F.lit(True)), "null_id")
        .when(F.col("has_item").isNull(), "unknown_item")
        .when(F.col("has_user").isNull(), "unknown_user")
    )
    return rows.withColumn("reason", reason).drop("has_item", "has_user")
