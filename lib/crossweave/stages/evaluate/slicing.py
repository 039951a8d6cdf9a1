"""Which groups the judged users and the items belong to, read from the tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.evaluation.groups import Groups, age_bucket, group_by_value
from crossweave.tables.times import check_times, time_in
from crossweave.tables.values import values_in

SECONDS_A_DAY = 86_400.0


def check_slices(settings: Settings) -> None:
    """Raise SettingsError where a slice names an attribute that the tables do not keep."""
    given, evaluate = settings.inputs, settings.evaluate
    users, items = given.users.attributes if given.users.path else [], given.items.attributes
    ages = [evaluate.item_age] if evaluate.item_age else []
    for setting, wanted, known, where in (
        ("user_slices", evaluate.user_slices, users, "inputs.users.attributes"),
        ("item_slices", evaluate.item_slices, items, "inputs.items.attributes"),
        ("item_age", ages, items, "inputs.items.attributes"),
    ):
        for name in wanted:
            if name not in known:
                raise SettingsError(
                    f"evaluate.{setting} names {name!r}, which {where} does not have ({', '.join(known) or 'none'})",
                    f"add it to {where}, or take it out",
                )


def user_groups(described: DataFrame, users: Sequence[str], columns: Sequence[str]) -> list[Groups]:
    """Return the groups of these users by each column of the users table; one that it lacks is in "(none)"."""
    rows = _values(described, "user_id", columns).toPandas().set_index("user_id").reindex(list(users))
    return _grouped(rows, columns)


def item_groups(catalog: DataFrame, columns: Sequence[str]) -> list[Groups]:
    """Return the groups of the items by each column; `catalog` has item_index, and gives every index once."""
    return _grouped(_values(catalog, "item_index", columns).orderBy("item_index").toPandas(), columns)


def item_ages(catalog: DataFrame, history: DataFrame, settings: Settings, protocol: str) -> np.ndarray:
    """Return the age bucket of each item when training ended, at the newest training interaction.

    An age counts from the time in evaluate.item_age, or without one from the item's first training interaction, which
    withheld items have none of. Raises InputContractError where that column holds no times.
    """
    column, unit = settings.evaluate.item_age, settings.inputs.items.time_unit
    train = history.where(F.col("split") == "train")
    end = train.agg(F.max("event_time").alias("end"))
    if column is not None:
        kept = catalog.select("item_index", F.try_element_at("attributes", F.lit(column)).alias("born"))
        check_times(kept, "born", unit, "evaluate.item_age", column)
        since = kept.select("item_index", time_in("born", unit).alias("since"))
    else:
        known = catalog.where(~F.col("cold")) if protocol == "cold" else catalog
        first = known.join(train, "item_id").groupBy("item_index").agg(F.min("first_time").alias("since"))
        since = catalog.select("item_index").join(first, "item_index", "left")
    days = (F.unix_timestamp("end") - F.unix_timestamp("since")) / SECONDS_A_DAY
    rows = since.crossJoin(end).orderBy("item_index").select(days.cast("double").alias("days")).toPandas()
    return age_bucket(rows["days"].to_numpy(np.float64))


def _values(table: DataFrame, key: str, columns: Sequence[str]) -> DataFrame:
    """Return the key and, under its place among the columns, each kept attribute's values as array<string>."""
    places = [str(place) for place in range(len(columns))]
    kept = [F.try_element_at("attributes", F.lit(name)).alias(at) for at, name in zip(places, columns, strict=True)]
    return table.select(key, *kept).select(key, *[values_in(at).alias(at) for at in places])


def _grouped(rows: pd.DataFrame, columns: Sequence[str]) -> list[Groups]:
    return [
        group_by_value(name, [list(values) if isinstance(values, np.ndarray) else [] for values in rows[str(place)]])
        for place, name in enumerate(columns)
    ]
