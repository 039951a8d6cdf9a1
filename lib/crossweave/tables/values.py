"""Columns of the input tables as the types that our tables have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

INTEGERS = ("tinyint", "smallint", "int", "bigint")


def as_strings(source: DataFrame, names: Sequence[str]) -> Column:
    """Return a map of the named columns as strings; a null has no entry, a nested value becomes JSON."""
    entries: list[Column] = []
    types: Mapping[str, str] = dict(source.dtypes)
    for name in names:
        nested = types[name].startswith(("array", "map", "struct"))
        entries += [F.lit(name), F.to_json(F.col(name)) if nested else F.col(name).cast("string")]
    if not entries:
        return F.from_json(F.lit("{}"), "map<string, string>")
    return F.map_filter(F.create_map(*entries), lambda _, value: value.isNotNull())


def as_time(source: DataFrame, name: str | None) -> Column:
    """Return a column of timestamps, or of integer seconds since 1970, as timestamps; all null without a name."""
    if name is None:
        return F.lit(None).cast("timestamp")
    if dict(source.dtypes)[name] in INTEGERS:
        return F.timestamp_seconds(F.col(name))
    return F.col(name).cast("timestamp")
