"""Only what changed: whose list would be the same as last time, and is carried over to tonight."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.scoring.rules import ItemRules
from crossweave.storage.records import digest
from crossweave.tables.receipt_details import Scored
from crossweave.tables.receipts import Receipt
from crossweave.tables.store import TableStore

STATES = "scored_users"


def basis_of(facts: Mapping[str, object], rules: ItemRules | None) -> str:
    """Return the fingerprint of all that every list depends on: model, items, settings, and what the rules say tonight.

    A new version of the catalog alone is no change: what it decides are the rules.
    """
    says = rules.fingerprint if rules is not None and not rules.say_nothing else None
    return digest([dict(facts), says])


def unchanged_users(
    spark: SparkSession, store: TableStore, last: Receipt[Scored] | None, basis: str, states: DataFrame
) -> DataFrame | None:
    """Return the ids of the users whose last list would be made again; None where everybody must be scored.

    `states` are tonight's `user_states`.
    """
    if last is None or last.details.basis != basis or STATES not in last.writes:
        return None
    known = store.read(spark, STATES, last.writes[STATES])
    return states.join(known, ["user_id", "state"]).select("user_id")


def carried(
    spark: SparkSession, store: TableStore, table: str, last: Receipt[Scored], users: DataFrame, date: datetime.date
) -> DataFrame:
    """Return the rows that some users had in a table last time, under tonight's date."""
    rows = store.read(spark, table, last.writes[table])
    return rows.join(users, "user_id", "left_semi").withColumn("run_date", F.lit(date))
