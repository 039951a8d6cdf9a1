"""What a judged table holds, by reason of refusal: counts, and where an example stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Group:
    """Rows with one reason, or the accepted ones."""

    rows: int
    example: str  # the first of them: file, row and what it holds
    more: Mapping[str, int]  # what else was counted in them


def group_by_reason(judged: DataFrame, **more: str) -> dict[str | None, Group]:
    """Return the groups of a judged table by `reason`, None for the accepted rows: one job.

    `judged` has file, row and reason, and `said` where a row's value is worth naming; `more` are SQL conditions to
    count.
    """
    said = F.col("said") if "said" in judged.columns else F.lit(None).cast("string")
    first = F.min(F.struct("file", "row", said.alias("said"))).alias("first")
    counts = [F.count_if(F.expr(condition)).alias(name) for name, condition in more.items()]
    return {
        row["reason"]: Group(row["rows"], _place(row["first"]), {name: row[name] for name in more})
        for row in judged.groupBy("reason").agg(F.count("*").alias("rows"), first, *counts).collect()
    }


def refused(groups: Mapping[str | None, Group]) -> dict[str, Group]:
    """Return the groups of refused rows, the largest first."""
    named = [(reason, group) for reason, group in groups.items() if reason is not None]
    return dict(sorted(named, key=lambda pair: (-pair[1].rows, pair[0])))


def in_words(found: Mapping[str, Group], most: int = 3) -> str:
    """Name the most frequent reasons, each with its count and an example."""
    return ", ".join(f"{reason} {group.rows:,} (such as {group.example})" for reason, group in [*found.items()][:most])


def _place(first: Mapping[str, object]) -> str:
    return f"row {first['row']} of {first['file']}" + (f": {first['said']}" if first["said"] else "")
