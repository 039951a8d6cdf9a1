"""The catalog of tonight: what the item rows say, joined with what was known of each item before."""

from __future__ import annotations

import datetime

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from crossweave.tables.schema import CATALOG, spark_schema


def new_catalog(rows: DataFrame, last: DataFrame | None, date: datetime.date) -> tuple[DataFrame, Observation]:
    """Return the catalog and an observation that counts it once it is written.

    `rows` are the item rows that were not refused. Items that are gone stay as removed. Counted are: active and
    removed items; active ones flagged as cold; changed ones (new, back again, or with other contents);
    whether they came or went (`moved`).
    """
    filled = F.map_filter("cells", lambda _, cell: cell["content"].isNotNull())
    hashes = F.transform_values(
        filled, lambda _, cell: F.struct(cell["change"].alias("change"), cell["content"].alias("content"))
    )
    tonight = rows.select("item_id", "title", "cold", "attributes", hashes.alias("hashes"), F.lit(True).alias("here"))
    if last is None:
        last = rows.sparkSession.createDataFrame([], spark_schema("catalog"))
    before = last.select("item_id", *[F.col(c).alias(f"_{c}") for c in CATALOG.names if c != "item_id"])
    both = tonight.join(before, "item_id", "full_outer")
    here, was = F.coalesce("here", F.lit(False)), F.coalesce(F.col("_status") == "active", F.lit(False))
    today = F.lit(date)
    same = F.coalesce(F.sort_array(F.map_entries("hashes")) == F.sort_array(F.map_entries("_hashes")), F.lit(False))
    values = {name: F.when(here, F.col(name)).otherwise(F.col(f"_{name}")) for name in CATALOG.names[1:5]}
    values |= {
        "status": F.when(here, "active").otherwise("removed"),
        "first_seen": F.coalesce("_first_seen", today),
        "last_seen": F.when(here, today).otherwise(F.col("_last_seen")),
    }
    catalog = both.select(
        "item_id",
        *[value.alias(name) for name, value in values.items()],
        (here & ~(same & was)).alias("_changed"),
        (here != was).alias("_moved"),
    )
    counts = Observation("catalog")
    counted = catalog.observe(
        counts,
        F.count(F.when(F.col("status") == "active", 1)).alias("active"),
        F.count(F.when(F.col("status") == "removed", 1)).alias("removed"),
        F.count(F.when((F.col("status") == "active") & F.col("cold"), 1)).alias("cold"),
        F.count(F.when(F.col("_changed"), 1)).alias("changed"),
        F.count(F.when(F.col("_moved"), 1)).alias("moved"),
        F.coalesce(F.sum(F.when(F.col("status") == "active", F.size("hashes"))), F.lit(0)).alias("contents"),
    )
    return counted.select(*CATALOG.names), counts
