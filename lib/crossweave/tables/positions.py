"""Numbers the rows of a frame in a given order without sending them all through one task."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.storage.records import Place
from crossweave.tables.paths import read_parquet, spark_path


def with_position(spark: SparkSession, frame: DataFrame, order: list[Column], name: str, staging: Place) -> DataFrame:
    """Add a long column `name` that counts the rows from 0 in the given total order.

    The sorted frame is written to `staging` once, since a second sort may cut its ranges elsewhere.
    """
    local = F.monotonically_increasing_id().bitwiseAND(F.lit((1 << 33) - 1))
    marked = frame.orderBy(*order).withColumn("_part", F.spark_partition_id()).withColumn("_local", local)
    marked.write.parquet(spark_path(staging))
    stored = read_parquet(spark, [staging], marked.schema)
    counts = {row["_part"]: row["count"] for row in stored.groupBy("_part").count().collect()}
    offsets, total = [], 0
    for part in sorted(counts):
        offsets.append((part, total))
        total += counts[part]
    starts = F.broadcast(spark.createDataFrame(offsets, "_part int, _start long"))
    joined = stored.join(starts, "_part")
    return joined.withColumn(name, F.col("_start") + F.col("_local")).drop("_part", "_start", "_local")
