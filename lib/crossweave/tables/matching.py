"""Ids of one table that another lacks: how they look, and the expression that would make them match."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_SAMPLE = 1000
_ENOUGH = 0.5  # share of the ids looked at that a rewriting must bring together, to be worth naming
_LONGEST = 40  # characters of an example
# In this order: of equally good ones the first is named. {0}: the id as text, {1}: the usual length on the other side.
_REWRITINGS = (
    "trim({0})",
    "lower({0})",
    "upper({0})",
    "lower(trim({0}))",
    "try_cast(trim({0}) as bigint)",
    "try_cast(try_cast({0} as double) as bigint)",
    "lpad({0}, {1}, '0')",
    "regexp_extract({0}, '([0-9]+)$', 1)",
    "try_cast(regexp_extract({0}, '([0-9]+)$', 1) as bigint)",
    "regexp_replace({0}, '[^0-9A-Za-z]', '')",
    "regexp_replace(lower({0}), '[^0-9a-z]', '')",
)


@dataclass(frozen=True)
class Side:
    """Ids of one column of the input, as text, and what the settings call it."""

    ids: DataFrame  # one column `id`
    table: str  # section below `inputs`
    setting: str  # that names the column: id, item, user
    column: str
    integer: bool
    derived: Mapping[str, str]
    private: bool = False  # users' ids are shown by their shape only

    @property
    def name(self) -> str:
        """The column with its table, as messages name it."""
        return f"inputs.{self.table}.{self.setting} ({self.column!r})"

    def example(self, value: str) -> str:
        """Show an id: its text, or where users are private its shape, letters as a or A and digits as 9."""
        shown = value[:_LONGEST] + ("…" if len(value) > _LONGEST else "")
        if self.private:
            shown = re.sub(r"\d", "9", re.sub(r"[^\W\d_]", lambda m: "A" if m[0].isupper() else "a", shown))
            return f"ids like {shown!r}"
        return repr(shown) + (" (an integer)" if self.integer else " (a string)")


def compare(mine: Side, other: Side) -> tuple[str, str]:
    """Say how ids of `mine` that `other` lacks look beside its own, and which settings would make them match.

    `mine.ids` holds the ids that found nothing. The second text is empty where no simple rewriting helps.
    """
    lacking, present = _drawn(mine.ids), _drawn(other.ids)
    words = f"{mine.name} holds {mine.example(lacking[0])}, {other.name} {other.example(present[0])}"
    for side, ids, against in ((mine, lacking, other), (other, present, mine)):
        beside = present if side is mine else lacking
        rewriting = _best(side, ids, against.ids, max(len(value) for value in beside))
        if rewriting:
            return words, _settings(side, rewriting)
    return words, ""


def _drawn(ids: DataFrame) -> list[str]:
    """Return some distinct ids, the same on every run."""
    distinct = ids.select("id").distinct().orderBy(F.xxhash64("id"), "id")
    return [row["id"] for row in distinct.limit(_SAMPLE).collect()]


def _best(side: Side, ids: list[str], against: DataFrame, length: int) -> str:
    """Return the rewriting that makes most of the ids match, or none where it is not at least half, one id each."""
    rows = against.sparkSession.createDataFrame([(value,) for value in ids], "id string")
    made = F.array(*[F.expr(r.format("id", length)).cast("string") for r in _REWRITINGS])
    tried = rows.select("id", F.posexplode(made).alias("rewriting", "key")).where("key is not null")
    met = tried.join(against.select(F.col("id").alias("key")).distinct(), "key", "left_semi")
    counts = {
        r["rewriting"]: r["keys"] for r in met.groupBy("rewriting").agg(F.countDistinct("key").alias("keys")).collect()
    }
    best = max(counts, key=lambda place: (counts[place], -place), default=None)
    return _REWRITINGS[best].format("{0}", length) if best is not None and counts[best] >= _ENOUGH * len(ids) else ""


def _settings(side: Side, rewriting: str) -> str:
    column = "`" + side.column.replace("`", "``") + "`" if re.search(r"\W", side.column) else side.column
    text = f"({side.derived[side.column]})" if side.column in side.derived else column
    expression = rewriting.replace("{0}", f"cast({text} as string)" if side.integer else text)
    table, name = f"inputs.{side.table}", f"{side.setting}_key"
    while name in side.derived or name == side.column:
        name += "_"
    return f'set {table}.derived: {{{name}: "{expression}"}} and {table}.{side.setting}: {name}'
