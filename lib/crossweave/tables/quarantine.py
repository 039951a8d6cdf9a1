"""Quarantine rows: what was refused, where it came from, why, and whether trying again can help."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from crossweave.tables.schema import QUARANTINE, spark_schema


def quarantine_rows(
    frame: DataFrame,
    *,
    date: datetime.date,
    run_id: str,
    stage: str,
    entity: str,
    reason: Column,
    detail: Column,
    **known: Column,
) -> DataFrame:
    """Map refused rows to the quarantine's schema.

    `known` gives item_id, user_id, modality, content_hash, encoder or transient where they are known.
    """
    values = {
        "run_date": F.lit(date),
        "run_id": F.lit(run_id),
        "stage": F.lit(stage),
        "entity": F.lit(entity),
        "reason": reason,
        "detail": detail,
        "transient": F.lit(False),
        **known,
    }
    schema = spark_schema("quarantine")
    return frame.select(
        *[values.get(name, F.lit(None)).cast(schema[name].dataType).alias(name) for name in QUARANTINE.names]
    )


def last_run(rows: DataFrame, stage: str) -> str | None:
    """Return the run whose refusals of a stage are the newest; run ids begin with the time of their start."""
    found = rows.where(F.col("stage") == stage).agg(F.max("run_id")).first()
    return found[0] if found else None


def grouped(rows: DataFrame, runs: Sequence[str], samples: int) -> list[Row]:
    """Count quarantine rows by stage, modality (or entity) and reason: those of some runs, and those of all.

    Returns stage, modality, reason, count, ever and `samples` (item_id, detail) at most of those runs' rows.
    """
    key = ["stage", "modality", "reason"]
    rows = rows.withColumn("modality", F.coalesce("modality", "entity"))
    rows = rows.withColumn("now", F.coalesce(F.col("run_id").isin(list(runs)), F.lit(False)))
    # Numbered before they are gathered: a reason may have refused more rows than one row of a group can hold.
    texts = [F.coalesce(name, F.lit("")).alias(name) for name in ("item_id", "detail")]
    shown = rows.where("now").select(*key, *texts).distinct()
    place = F.row_number().over(Window.partitionBy(*key).orderBy("item_id", "detail"))
    shown = shown.withColumn("place", place).where(F.col("place") <= samples)
    gathered = shown.groupBy(*key).agg(F.sort_array(F.collect_list(F.struct("item_id", "detail"))).alias("samples"))
    counted = rows.groupBy(*key).agg(F.count(F.when(F.col("now"), 1)).alias("count"), F.count("*").alias("ever"))
    return counted.join(gathered, key, "left").orderBy(*key).collect()


def count_reasons(rows: DataFrame) -> dict[str, int]:
    """Count quarantine rows by reason."""
    return {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}


def worst_reasons(rows: DataFrame, key: str, most: int = 3) -> str:
    """Name the most frequent reasons of quarantine rows with their counts of distinct `key`."""
    counts = rows.groupBy("reason").agg(F.countDistinct(key).alias("n")).orderBy(F.desc("n"), "reason").limit(most)
    return ", ".join(f"{row['reason']} {row['n']:,}" for row in counts.collect())
