"""Quarantine rows: what was refused, where it came from, why, and whether trying again can help."""

from __future__ import annotations

import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from crossweave.tables.schema import QUARANTINE, spark_schema


def quarantine_rows(
    frame: DataFrame, *, date: datetime.date, stage: str, entity: str, reason: Column, detail: Column, **known: Column
) -> DataFrame:
    """Map refused rows to the quarantine's schema.

    `known` gives item_id, user_id, modality, content_hash, encoder or transient where they are known.
    """
    values = {
        "run_date": F.lit(date),
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


def count_reasons(rows: DataFrame) -> dict[str, int]:
    """Count quarantine rows by reason."""
    return {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}


def worst_reasons(rows: DataFrame, key: str, most: int = 3) -> str:
    """Name the most frequent reasons of quarantine rows with their counts of distinct `key`."""
    counts = rows.groupBy("reason").agg(F.countDistinct(key).alias("n")).orderBy(F.desc("n"), "reason").limit(most)
    return ", ".join(f"{row['reason']} {row['n']:,}" for row in counts.collect())
