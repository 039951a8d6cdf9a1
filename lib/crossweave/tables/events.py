"""Interactions, users and blocks as they are judged: mapped to our columns, and refused for a named reason."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from crossweave.tables.paths import inner_name, user_column
from crossweave.tables.source import FILE, ROW
from crossweave.tables.splits import split_order
from crossweave.tables.times import as_time, plausible
from crossweave.tables.values import NOT_UTF8, as_strings, misread, text_of, with_refusal


@dataclass(frozen=True)
class EventColumns:
    """Which columns of the interactions table are what; without a split column every row is train."""

    user: str
    item: str
    weight: str | None = None
    missing_weight: float | None = None  # what a row without a weight weighs; None: it is refused
    time: str | None = None
    time_unit: str = "s"
    split: str | None = None


def judged_interactions(
    source: DataFrame, items: DataFrame, columns: EventColumns, latest: datetime.datetime
) -> DataFrame:
    """Return user_id, item_id, weight, event_time, split, file, row and `reason` (null: accepted) of every row.

    `said` is what a refused row holds where an id does not say it, `filled` whether the weight was missing. `items`
    holds the known item ids, `latest` the first moment that no event can have. With a split column, a pair belongs to
    the first of its splits.
    """
    weight = user_column(columns.weight).cast("float") if columns.weight else F.lit(None).cast("float")
    missing = weight.isNull() | F.isnan(weight) if columns.weight else F.lit(False)
    unknown = F.lit(columns.missing_weight if columns.weight else 1.0).cast("float")
    rows = source.select(
        text_of(source, columns.user).alias("user_id"),
        text_of(source, columns.item).alias("item_id"),
        misread(source, [columns.user, columns.item]).alias("_misread"),
        F.when(~missing, weight).otherwise(unknown).alias("weight") if columns.weight else unknown.alias("weight"),
        as_time(source, columns.time and inner_name(columns.time), columns.time_unit).alias("event_time"),
        (text_of(source, columns.split) if columns.split else F.lit("train")).alias("split"),
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
        missing.alias("filled"),
        _shown(source, columns.time).alias("_time"),
        _shown(source, columns.weight).alias("_weight"),
    )
    known = items.select("item_id", F.lit(True).alias("known"))
    finite = F.abs("weight") < float("inf")
    timeless = F.col("_time").isNotNull() & ~F.coalesce(plausible(F.col("event_time"), latest), F.lit(False))
    reason = (
        F.when(F.col("_misread"), NOT_UTF8)
        .when(_blank("user_id") | _blank("item_id"), "null_id")
        .when(F.col("known").isNull(), "unknown_item")
        .when(timeless, "bad_time")
        .when(F.col("weight").isNull(), "no_weight")
        .when(~finite, "non_finite")
        .when(~F.coalesce(F.col("split").isin("train", "valid", "test"), F.lit(False)), "unknown_split")
    )
    judged = rows.join(known, "item_id", "left").withColumn("reason", reason)
    said = [("bad_time", columns.time, "_time"), ("non_finite", columns.weight, "_weight")]
    said += [("unknown_split", columns.split, "split")]
    words = [F.when(F.col("reason") == r, F.concat(F.lit(f"{n} is "), _short(c))) for r, n, c in said if n]
    judged = judged.withColumn("said", F.coalesce(*words, F.lit(None).cast("string")))
    if columns.split:
        pair = Window.partitionBy("user_id", "item_id")
        first = F.min(F.when(F.col("reason").isNull(), split_order(F.col("split")))).over(pair)
        later = F.col("reason").isNull() & (split_order(F.col("split")) > first)
        judged = judged.withColumn("reason", F.when(later, "pair_in_two_splits").otherwise(F.col("reason")))
    return judged.drop("known", "_time", "_weight", "_misread")


REASONS = (
    NOT_UTF8,
    "null_id",
    "unknown_item",
    "bad_time",
    "no_weight",
    "non_finite",
    "unknown_split",
    "pair_in_two_splits",
)
"""Why an interaction is refused, in the order in which it is asked: a row has the first that holds."""


def judged_users(source: DataFrame, user: str, attributes: Sequence[str]) -> DataFrame:
    """Return user_id, attributes, file, row and `reason` (null: accepted) of every row."""
    rows = source.select(
        text_of(source, user).alias("user_id"),
        as_strings(source, attributes).alias("attributes"),
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
        F.when(misread(source, [user, *attributes]), NOT_UTF8).alias("reason"),
    )
    return with_refusal(rows, "user_id", "reason")


def judged_blocks(source: DataFrame, items: DataFrame, users: DataFrame, *, user: str, item: str) -> DataFrame:
    """Return user_id, item_id, file, row and `reason` (null: accepted) of every row.

    `items` and `users` hold the known ids, each once.
    """
    rows = source.select(
        text_of(source, user).alias("user_id"),
        text_of(source, item).alias("item_id"),
        misread(source, [user, item]).alias("_misread"),
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
    )
    rows = rows.join(items.select("item_id", F.lit(True).alias("has_item")), "item_id", "left")
    rows = rows.join(users.select("user_id", F.lit(True).alias("has_user")), "user_id", "left")
    reason = (
        F.when(F.col("_misread"), NOT_UTF8)
        .when(_blank("user_id") | _blank("item_id"), "null_id")
        .when(F.col("has_item").isNull(), "unknown_item")
        .when(F.col("has_user").isNull(), "unknown_user")
    )
    return rows.withColumn("reason", reason).drop("has_item", "has_user", "_misread")


def _blank(column: str) -> Column:
    return F.coalesce(F.trim(column) == "", F.lit(True))


def _shown(source: DataFrame, name: str | None) -> Column:
    return text_of(source, name) if name else F.lit(None).cast("string")


def _short(column: str) -> Column:
    """Return a value as the quarantine shows it: not longer than a line."""
    return F.coalesce(F.substring(F.col(column), 1, 60), F.lit("null"))
