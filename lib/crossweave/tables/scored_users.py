"""The users to score: one row each with all that decides their list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from crossweave.tables.expressions import check_condition
from crossweave.tables.paths import spare_names
from crossweave.tables.user_attributes import attribute_codes


@dataclass(frozen=True)
class UserTables:
    """What is known of users."""

    history: DataFrame  # of the table history, the pairs that may be known
    everybody: DataFrame  # user_id, distinct
    described: DataFrame  # user_id, attributes
    blocks: DataFrame | None  # user_id, item_id: never to be recommended

    @classmethod
    def of(cls, read: Callable[[str], DataFrame], protocol: str, *, blocks: bool) -> Self:
        """Take the tables of a night, which `read` opens by name; blocks where there are some and they matter."""
        history, described = read("history"), read("users")
        everybody = described.select("user_id").union(history.select("user_id")).distinct()
        if protocol == "cold":
            # Withheld items are the candidates: what the users did with them is neither known nor masked.
            history = history.join(read("catalog").where("cold").select("item_id"), "item_id", "left_anti")
        return cls(history, everybody, described, read("blocks") if blocks else None)


def user_rows(
    tables: UserTables,
    item_index: DataFrame,
    user_index: DataFrame,
    *,
    history: Sequence[str],
    seen: Sequence[str],
    vocabulary: Mapping[str, Sequence[str]],
    segments: Mapping[str, str],
    attributes: Sequence[str],
    unknown: int,
) -> DataFrame:
    """Return one row a user.

    user_id; history, seen and blocked (item indices; the first oldest first, of these splits); user_index (`unknown`:
    has none); attributes (codes of the vocabulary); segments (bit s: the s-th of `segments`, name -> SQL condition
    over the columns `attributes`, holds).
    """
    pairs = tables.history.join(item_index, "item_id")

    def indices(splits: Sequence[str]) -> Column:
        """Oldest first, as training saw them; an item without a time comes before all that have one."""
        event = F.struct(F.coalesce(F.unix_seconds("event_time"), F.lit(-1)).alias("time"), "item_index")
        chosen = F.when(F.col("split").isin(*splits), event) if splits else F.lit(None).cast("struct<item_index:int>")
        return F.sort_array(F.collect_list(chosen))["item_index"]

    active = pairs.groupBy("user_id").agg(indices(history).alias("history"), indices(seen).alias("seen"))
    nothing = F.array().cast("array<int>")
    rows = tables.everybody.join(active, "user_id", "left").join(tables.described, "user_id", "left")
    if segments:
        rows = rows.join(_members(rows.select("user_id", "attributes"), segments, attributes), "user_id")
    else:
        rows = rows.withColumn("segments", F.lit(0))
    rows = rows.withColumn("attributes", attribute_codes(vocabulary))
    rows = rows.join(user_index, "user_id", "left")
    rows = rows.withColumn("user_index", F.coalesce("user_index", F.lit(unknown)))
    if tables.blocks is not None:
        blocked = tables.blocks.join(item_index, "item_id").groupBy("user_id")
        rows = rows.join(
            blocked.agg(F.sort_array(F.collect_set("item_index")).alias("blocked")), "user_id", "left"
        ).withColumn("blocked", F.coalesce("blocked", nothing))
    else:
        rows = rows.withColumn("blocked", nothing)
    return rows.withColumn("history", F.coalesce("history", nothing)).withColumn("seen", F.coalesce("seen", nothing))


def user_states(rows: DataFrame) -> DataFrame:
    """Return user_id and state of the rows of `user_rows`: equal states get equal lists from the same items."""
    whole = F.struct(*[name for name in sorted(rows.columns) if name.lower() != "user_id"])
    return rows.select("user_id", F.sha2(F.to_json(whole), 256).alias("state"))


def check_segments(described: DataFrame, segments: Mapping[str, str], attributes: Sequence[str]) -> None:
    """Check the conditions of segments; raises SettingsError naming the rule."""
    if segments:
        sample = described.sparkSession.createDataFrame([], _in_columns(described, attributes).schema)
        for name, condition in segments.items():
            check_condition(sample, condition, f"score.rules.segments.{name}.users")


def _members(users: DataFrame, segments: Mapping[str, str], attributes: Sequence[str]) -> DataFrame:
    """Return user_id, segments; a condition that is null does not hold."""
    bits = [
        F.when(F.expr(condition), F.lit(1 << place)).otherwise(0) for place, condition in enumerate(segments.values())
    ]
    (user_id,) = spare_names(attributes, 1)
    rows = _in_columns(users.withColumn(user_id, F.col("user_id")), attributes, user_id)
    return rows.select(F.col(user_id).alias("user_id"), sum(bits, F.lit(0)).alias("segments"))


def _in_columns(users: DataFrame, attributes: Sequence[str], *beside: str) -> DataFrame:
    return users.select(
        "user_id",
        *beside,
        *[F.try_element_at("attributes", F.lit(name)).alias(name) for name in attributes if name != "user_id"],
    )
