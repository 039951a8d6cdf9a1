"""Leakage: what evaluation judges by must be unknown to training and to scoring.

The contract: hand over the pairs that a stage is about to use and the pairs that are held out. All rows of a (user,
item) pair lie in one split, so that a pair tells as much as its rows. Users are named by their number in `user_index`,
never by their id.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.errors import LeakageError


@dataclass(frozen=True)
class Leakage:
    """What a check found."""

    what: str  # the table that was looked at
    looked_at: int  # pairs
    found: int  # held-out pairs among them
    example: tuple[int, int] | None  # user_index (below 0: no training saw this user) and item_index of one of them

    @property
    def metrics(self) -> dict[str, float]:
        """The figures for the run record."""
        return {"leakage.pairs": self.looked_at, "leakage.found": self.found}

    def refuse(self) -> None:
        """Raise LeakageError where anything was found."""
        if self.example is not None:
            user, item = self.example
            who = f"user number {user}" if user >= 0 else "a user that no training saw"
            raise LeakageError(
                f"{self.what}: expected no (user, item) pair that is held out for evaluation, found {self.found:,} of "
                f"{self.looked_at:,}, such as item number {item} of {who}",
                "nothing was published; run ./submit.sh pipeline with tonight's settings; report it if that fails too",
            )


def held_out_pairs(history: DataFrame, item_index: DataFrame, cold_items: DataFrame | None) -> DataFrame:
    """Return user_id, item_index of the pairs that evaluation judges by: test ones and all of withheld items.

    `item_index` has item_id and item_index; `cold_items` item_id of the withheld items, None under the warm protocol.
    """
    held_out = F.col("split") == "test"
    if cold_items is not None:
        flagged = cold_items.select("item_id", F.lit(True).alias("_cold"))
        history, held_out = history.join(flagged, "item_id", "left"), held_out | F.col("_cold")
    rows = history.where(held_out).join(item_index.select("item_id", "item_index"), "item_id")
    return rows.select("user_id", "item_index")


def find_leakage(what: str, known: DataFrame, held_out: DataFrame) -> Leakage:
    """Count the held-out pairs among those that are known; one pass and one join.

    `known` has user_id, item_index and user_index; `held_out` the rows of `held_out_pairs`.
    """
    marked = known.join(held_out.withColumn("_held_out", F.lit(True)), ["user_id", "item_index"], "left")
    leak = F.when(F.col("_held_out"), F.struct("user_index", "item_index"))
    row = marked.agg(F.count("*").alias("all"), F.count(leak).alias("found"), F.min(leak).alias("example")).first()
    assert row is not None
    example = (row["example"]["user_index"], row["example"]["item_index"]) if row["found"] else None
    return Leakage(what, row["all"], row["found"], example)
