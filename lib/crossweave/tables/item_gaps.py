"""Cells of the items table that say nothing where something is asked, counted: nobody is refused for them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.tables.item_rows import ItemColumns
from crossweave.tables.times import WHOLE, known_time, quoted, wrong_column


def item_gaps(source: DataFrame, columns: ItemColumns) -> list[str]:
    """Say how many of these rows have no flag for `cold` and no usable time of change, and what that means.

    Raises InputContractError where nine in ten of the times that are there cannot be used.
    """
    cold = F.col(quoted(columns.cold)).isNull() if columns.cold else F.lit(False)
    given = F.col(quoted(columns.updated_at)).isNotNull() if columns.updated_at else F.lit(False)
    usable = known_time(source, columns.updated_at, columns.time_unit).isNotNull()
    row = source.agg(F.count_if(cold), F.count_if(given), F.count_if(given & usable)).first()
    assert row is not None
    flagless, dated, good = row
    notes = []
    if flagless:
        notes.append(f"{flagless:,} item rows have no value of {columns.cold}: they count as not cold")
    if dated > good:
        if columns.updated_at and dated - good >= WHOLE * dated:
            counts = f"{dated - good:,} of {dated:,} values"
            raise wrong_column(source, columns.updated_at, columns.time_unit, "inputs.items.updated_at", counts)
        notes.append(f"{dated - good:,} item rows have an implausible {columns.updated_at}: they are always read")
    return notes
