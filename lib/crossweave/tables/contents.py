"""Which contents the catalog holds, and which of them have a vector, are known to fail, or are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

HAVE, FAILED, WANTED = "have", "failed", "wanted"


@dataclass(frozen=True)
class Standing:
    """How the contents of one modality stand: distinct contents, and the items' cells that hold them."""

    contents: Mapping[str, int]  # have | failed | wanted -> contents
    cells: Mapping[str, int]
    files: tuple[str, ...]  # of the items table, that hold the wanted contents

    @property
    def wanted(self) -> int:
        """Contents that lack a vector and are worth trying."""
        return self.contents[WANTED]


def item_cells(rows: DataFrame) -> DataFrame:
    """Return item_id, file, modality and content_hash of every content that an accepted item row holds."""
    accepted = rows.where("refused is null")
    cells = accepted.select("item_id", "file", F.explode("cells").alias("modality", "cell")).where(
        "cell.content is not null"
    )
    return cells.select("item_id", "file", "modality", F.col("cell.content").alias("content_hash"))


def distinct_contents(cells: DataFrame) -> DataFrame:
    """Return modality, content_hash, the first item that has it (item_id, file) and how many do (cells)."""
    first = F.min(F.struct("item_id", "file"))
    grouped = cells.groupBy("modality", "content_hash").agg(first.alias("first"), F.count("*").alias("cells"))
    return grouped.select("modality", "content_hash", "first.item_id", "first.file", "cells")


def with_state(contents: DataFrame, vectors: Mapping[str, DataFrame], failures: DataFrame) -> DataFrame:
    """Add `state` to contents: have, failed or wanted.

    `vectors` gives the feature table of each modality, `failures` (modality, content_hash) what is not to be tried.
    """
    tables = [table.select(F.lit(name).alias("modality"), "content_hash") for name, table in vectors.items()]
    marked = [table.withColumn("_state", F.lit(HAVE)) for table in tables]
    marked.append(failures.select("modality", "content_hash").distinct().withColumn("_state", F.lit(FAILED)))
    known = reduce(DataFrame.unionByName, marked).groupBy("modality", "content_hash")
    # A vector made after a failure counts: "have" sorts behind "failed".
    joined = contents.join(known.agg(F.max("_state").alias("state")), ["modality", "content_hash"], "left")
    return joined.withColumn("state", F.coalesce("state", F.lit(WANTED)))


def standings(contents: DataFrame, modalities: list[str]) -> dict[str, Standing]:
    """Count contents and cells by modality and state, in one query."""
    counted = (
        contents.groupBy("modality", "state")
        .agg(
            F.count("*").alias("contents"),
            F.sum("cells").alias("cells"),
            F.collect_set(F.when(F.col("state") == WANTED, F.col("file"))).alias("files"),
        )
        .collect()
    )
    states = {(row["modality"], row["state"]): row for row in counted}

    def stand(name: str) -> Standing:
        rows = {state: states.get((name, state)) for state in (HAVE, FAILED, WANTED)}
        wanted = rows[WANTED]
        return Standing(
            {state: row["contents"] if row else 0 for state, row in rows.items()},
            {state: row["cells"] if row else 0 for state, row in rows.items()},
            tuple(sorted(wanted["files"])) if wanted else (),
        )

    return {name: stand(name) for name in modalities}


def vanished(wanted: DataFrame, vectors: DataFrame, failures: DataFrame) -> DataFrame:
    """Return, as failures, the contents that the items table no longer holds as they were when it was ingested."""
    missing = wanted.join(vectors, "content_hash", "left_anti").join(failures, "content_hash", "left_anti")
    return missing.select(
        "content_hash",
        F.lit("changed_since_ingest").alias("reason"),
        F.lit("the input file changed after it was ingested; ingest again").alias("detail"),
        F.lit(True).alias("transient"),
    )
