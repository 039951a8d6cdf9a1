"""Columns of the input tables as the types that our tables have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from crossweave.tables.paths import inner_name, quoted, user_column


def as_strings(source: DataFrame, names: Sequence[str]) -> Column:
    """Return a map of a user's columns as strings, by their names; a null has no entry, a nested value becomes JSON."""
    entries: list[Column] = []
    types: Mapping[str, str] = dict(source.dtypes)
    for name in names:
        value = user_column(name)
        nested = types[inner_name(name)].startswith(("array", "map", "struct"))
        entries += [F.lit(name), F.to_json(value) if nested else value.cast("string")]
    if not entries:
        return F.from_json(F.lit("{}"), "map<string, string>")
    return F.map_filter(F.create_map(*entries), lambda _, value: value.isNotNull())


def with_refusal(rows: DataFrame, id_column: str, name: str) -> DataFrame:
    """Add a column `name`: null_id for a blank id, duplicate_id for all but the first row of one, else null.

    The first is the one of the first file (column `file`), then of the first row (column `row`).
    """
    copy = F.row_number().over(Window.partitionBy(id_column).orderBy("file", "row"))
    nameless = F.coalesce(F.trim(id_column) == "", F.lit(True))
    refused = F.when(nameless, "null_id").when(F.col("_copy") > 1, "duplicate_id")
    return rows.withColumn("_copy", copy).withColumn(name, refused).drop("_copy")


def values_in(column: str) -> Column:
    """Return the values of a kept attribute as array<string>: those of a list, the value itself, or none."""
    text = F.col(quoted(column)).cast("string")
    listed = F.when(text.startswith("["), F.from_json(text, "array<string>"))  # lists are kept as JSON
    return F.array_distinct(F.array_compact(F.coalesce(listed, F.array(text))))
