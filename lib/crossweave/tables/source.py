"""Opens an input table in Spark: the columns of its files, the derived ones, and where each row stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import StructType

from crossweave.errors import SettingsError
from crossweave.tables.contract import ColumnType, InputTable, preflight
from crossweave.tables.expressions import columns_of

FILE, ROW = "_file", "_row"
"""Columns that `read_source` adds: the file relative to the table's root, and the row's number in it from 0."""


@dataclass(frozen=True)
class Source:
    """An input table that passed its checks, and the columns that settings derive from its own."""

    table: InputTable
    derived: Mapping[str, str]  # name -> SQL expression
    derived_types: Mapping[str, pa.DataType] = field(default_factory=dict)

    @cached_property
    def schema(self) -> StructType:
        """The files' columns as Spark reads them: a small job, once."""
        return SparkSession.active().read.parquet(str(self.table.files[0])).schema

    def is_integer(self, column: str) -> bool:
        """Say whether a column, be it derived, holds integers."""
        kind = self.derived_types.get(column)
        return self.table.is_integer(column) if kind is None else bool(pa.types.is_integer(kind))


def check_source(
    spark: Any, name: str, path: str, columns: Mapping[str, ColumnType], derived: Mapping[str, str]
) -> Source:
    """Check the footers of an input table and its derived columns (name -> SQL expression over the files' columns).

    `spark` is called for a session, only where a column is derived. A derived column is a value of its own row and
    of nothing else, so that it stays true as long as the row's file does not change. Raises InputContractError
    naming file and column, and SettingsError naming a derived column that cannot be computed, hides a column of the
    files, reads the clock, is random, or looks at other rows.
    """
    table = preflight(name, path, {column: kind for column, kind in columns.items() if column not in derived})
    if not derived:
        return Source(table, derived)
    for column in derived:
        if column in table.schema.names:
            raise _bad(name, column, f"{table.root} has a column of that name", "choose another name")
    plain = spark().read.parquet(str(table.files[0]))
    used: set[str] = set()
    types: dict[str, pa.DataType] = {}
    for column, expression in derived.items():
        used |= columns_of(plain, expression, f"inputs.{name}.derived.{column}")
        types[column] = found = to_arrow_type(_with_derived(plain, {column: expression}).schema[column].dataType)
        if column in columns and not columns[column].accepts(found):
            raise _bad(name, column, f"should be {columns[column].words}, is {found}", "cast it in the expression")
    # Every file must have what the expressions read: Spark would take a missing column for NULL.
    wanted = dict.fromkeys(used, ColumnType("any type", lambda _: True))
    wanted |= {column: kind for column, kind in columns.items() if column not in derived}
    return Source(preflight(name, path, wanted), derived, types)


def read_source(spark: SparkSession, source: Source, files: Sequence[str] | None = None) -> DataFrame:
    """Return the rows of an input table, or of some of its files (relative paths), with `_file` and `_row` added."""
    table = source.table
    paths = [str(path) for path in table.files] if files is None else [str(table.root / file) for file in files]
    if not paths:
        rows = spark.createDataFrame([], source.schema)
        return _with_derived(rows, source.derived).withColumns({FILE: F.lit(""), ROW: F.lit(0).cast("long")})
    rows = spark.read.schema(source.schema).parquet(*paths)
    places = {FILE: _relative(table.root), ROW: F.col("_metadata.row_index")}
    return _with_derived(rows.withColumns(places), source.derived)


def _relative(root: Path) -> Column:
    """Return the path of a row's file below `root`; Spark gives it as a URI with percent escapes."""
    path = F.regexp_replace("_metadata.file_path", "^file:/+", "/")
    plain = F.url_decode(F.replace(path, F.lit("+"), F.lit("%2B")))
    return F.substring(plain, len(str(root)) + 2, 1 << 16)


def _with_derived(rows: DataFrame, derived: Mapping[str, str]) -> DataFrame:
    return rows.withColumns({name: F.expr(expression) for name, expression in derived.items()}) if derived else rows


def _bad(table: str, column: str, problem: str, hint: str) -> SettingsError:
    return SettingsError(f"inputs.{table}.derived.{column} {problem}", hint)
