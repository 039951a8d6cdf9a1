"""Parts interactions into train, valid and test; all rows of a (user, item) pair fall into one split."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


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


def split_order(split: Column) -> Column:
    """Order splits from the past to the future: train, valid, test."""
    return F.when(split == "train", 0).when(split == "valid", 1).otherwise(2)


def trainable(interactions: DataFrame, cold_items: DataFrame | None) -> DataFrame:
    """Keep the train rows; under the cold protocol also leave out those of withheld items."""
    rows = interactions.where(F.col("split") == "train")
    return rows if cold_items is None else rows.join(cold_items, "item_id", "left_anti")
