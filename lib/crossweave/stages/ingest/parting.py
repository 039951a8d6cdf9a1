"""How the settings part the interactions, and what the run record says of it."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.config import Settings
from crossweave.config.split import SplitSettings
from crossweave.errors import InputContractError
from crossweave.tables.splits import (
    Cuts,
    cold_users_split,
    cut_times,
    global_time_split,
    leave_last_out_split,
    random_split,
)

PARTS = ("train", "valid", "test")


def parted(interactions: DataFrame, split: SplitSettings, seed: int) -> tuple[DataFrame, Cuts | None]:
    """Return the interactions with the split of the settings, and the times that part them where times do."""
    if split.method == "random":
        return random_split(interactions, split.valid_fraction, split.test_fraction, seed), None
    if split.method == "leave_last_out":
        return leave_last_out_split(interactions), None
    if split.method == "cold_users":
        return cold_users_split(interactions, split.valid_fraction, split.test_fraction, seed), None
    if split.method == "global_time":
        cuts = Cuts(split.valid_from, split.test_from)
        if split.test_from is None:
            cuts = cut_times(interactions, split.valid_fraction, split.test_fraction)
        return global_time_split(interactions, cuts), cuts
    return interactions, None


def split_facts(settled: DataFrame, settings: Settings, cuts: Cuts | None) -> dict[str, Any]:
    """Say by which rule the interactions are parted, and how many rows and users each part has.

    Raises InputContractError where a rule by time or by user leaves nothing to train on or to judge by.
    """
    split = settings.split
    counts = settled.groupBy("split").agg(F.count("*").alias("rows"), F.countDistinct("user_id").alias("users"))
    found = {row["split"]: {"rows": row["rows"], "users": row["users"]} for row in counts.collect()}
    parts = {name: found.get(name, {"rows": 0, "users": 0}) for name in PARTS}
    facts: dict[str, Any] = {"method": split.method, "seed": settings.seed, "parts": parts}
    if split.method in ("random", "cold_users", "global_time"):
        facts |= {"valid_fraction": split.valid_fraction, "test_fraction": split.test_fraction}
    if cuts is not None:
        times = {"valid_from": cuts.valid_from, "test_from": cuts.test_from}
        facts |= {name: time.isoformat() if time is not None else None for name, time in times.items()}
    empty = [name for name in ("train", "test") if not parts[name]["rows"]]
    if split.method in ("leave_last_out", "global_time", "cold_users") and found and empty:
        counted = ", ".join(f"{part['rows']:,} rows in {name}" for name, part in parts.items())
        where = f" at {facts['valid_from']} and {facts['test_from']}" if cuts is not None else ""
        raise InputContractError(
            f"split.method={split.method}{where} leaves nothing in {' and '.join(empty)}: {counted}",
            "choose other split settings; docs/evaluation.md says what each method does",
        )
    return facts
