"""Cells of the items table that say nothing where something is asked, counted: nobody is refused for them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.tables.item_rows import ItemColumns
from crossweave.tables.paths import inner_name, user_column
from crossweave.tables.times import LONG_AGO, NEVER, WHOLE, as_time, known_time, wrong_column


def item_gaps(source: DataFrame, columns: ItemColumns) -> list[str]:
    """Say how many of these rows have no flag for `cold` and no usable time of change, and what that means.

    Raises InputContractError where nine in ten of the times that are there are none at all, ages ahead, or long ago.
    """
    name, unit = columns.updated_at, columns.time_unit
    cold = user_column(columns.cold).isNull() if columns.cold else F.lit(False)
    given = user_column(name).isNotNull() if name else F.lit(False)
    ahead = F.coalesce(as_time(source, name and inner_name(name), unit) >= F.lit(NEVER), F.lit(True))
    known = known_time(source, name, unit)
    unknown, early = known.isNull(), F.coalesce(known < F.lit(LONG_AGO), F.lit(False))
    counts = [F.count_if(condition) for condition in (cold, given, given & ahead, given & unknown, early)]
    row = source.agg(*counts).first()
    assert row is not None
    flagless, dated, far, undated, long_ago = row
    for bad, what in ((far, "values"), (long_ago, f"times, all before {LONG_AGO.year},")):
        if name and bad and bad >= WHOLE * dated:
            told, setting = f"{bad:,} of {dated:,} {what}", "inputs.items.updated_at"
            raise wrong_column(source, inner_name(name), unit, setting, told, name=name)
    notes = [f"{flagless:,} item rows have no value of {columns.cold}: they count as not cold"] if flagless else []
    return notes + ([f"{undated:,} item rows have an implausible {name}: they are always read"] if undated else [])
