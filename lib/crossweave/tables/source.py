"""Opens an input table in Spark: the wanted columns of its files, the derived ones, and where each row stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, LongType, StringType, StructField, StructType

from crossweave.errors import SettingsError
from crossweave.storage.location import Location
from crossweave.tables.contract import ANY, ColumnType
from crossweave.tables.expressions import columns_of, type_of
from crossweave.tables.footers import Footers, InputTable, Part
from crossweave.tables.leaf_types import kind_of, spark_type
from crossweave.tables.paths import inner_name, read_parquet, spare_names
from crossweave.tables.stored import FileColumn

FILE, ROW = "_file", "_row"
"""Columns that `read_source` adds: the file relative to the table's root, and the row's number in it from 0."""


@dataclass(frozen=True)
class Source:
    """An input table that passed its checks, and the columns that settings derive from its own."""

    table: InputTable
    derived: Mapping[str, str]  # name -> SQL expression
    derived_types: Mapping[str, DataType] = field(default_factory=dict)
    used: Sequence[str] = ()  # the columns that the expressions read

    @property
    def types(self) -> dict[str, DataType]:
        """The Spark types of all columns that were asked for."""
        return {name: spark_type(kind) for name, kind in self.table.kinds.items()} | dict(self.derived_types)

    def is_integer(self, column: str) -> bool:
        """Say whether a column, be it derived, holds integers."""
        kind = self.derived_types.get(column)
        return self.table.is_integer(column) if kind is None else bool(pa.types.is_integer(kind_of(kind)))


def check_source(
    spark: Any, name: str, path: str, columns: Mapping[str, ColumnType], derived: Mapping[str, str]
) -> Source:
    """Check the footers of an input table and its derived columns (name -> SQL expression over the files' columns).

    `spark` is called for a session, only where a column is derived. A derived column is a value of its own row and
    of nothing else, so that it stays true as long as the row's file does not change. Raises InputContractError
    naming file and column, and SettingsError naming a derived column that cannot be computed, hides a column of the
    files, reads the clock, is random, or looks at other rows.
    """
    footers = Footers(name, path)
    wanted = {column: kind for column, kind in columns.items() if column not in derived}
    if not derived:
        return Source(footers.table(wanted), derived)
    for column in derived:
        if column in footers.names:
            raise _bad(name, column, f"{footers.found.root} has a column of that name", "choose another name")
    session = _telling_case_apart(spark()) if footers.twins else spark()
    readable = footers.readable()
    everything = _empty(session, {column: spark_type(kind) for column, kind in readable.items()})
    called = {column.lower(): column for column in readable}
    used: set[str] = set()
    for column, expression in derived.items():
        read = columns_of(everything, expression, f"inputs.{name}.derived.{column}")
        used |= {own if own in readable else called[own.lower()] for own in read}
    table = footers.table(dict.fromkeys(sorted(used), ANY) | wanted)
    plain = _empty(session, {column: spark_type(table.kinds[column]) for column in used})
    types: dict[str, DataType] = {}
    for column, expression in derived.items():
        types[column] = type_of(plain, expression, f"inputs.{name}.derived.{column}")
        found = kind_of(types[column])
        if column in columns and not columns[column].accepts(found):
            raise _bad(name, column, f"should be {columns[column].words}, is {found}", "cast it in the expression")
    return Source(table, derived, types, tuple(sorted(used)))


def read_source(spark: SparkSession, source: Source, files: Sequence[str] | None = None) -> DataFrame:
    """Return the rows of an input table, or of some of its files (relative paths).

    Its columns are those that were asked for, under the names that `inner_name` gives them, then `_file` and `_row`.
    """
    table = source.table
    chosen = set(table.stamps) if files is None else set(files)
    parts = [(part, sorted(part.files & chosen)) for part in table.parts]
    frames = [_read_part(spark, table, part, names) for part, names in parts if names]
    if not frames:
        frames = [_no_rows(spark, {name: spark_type(kind) for name, kind in table.kinds.items()})]
    rows = reduce(DataFrame.unionAll, frames)
    return _with_derived(rows, source) if source.derived else rows


def _read_part(spark: SparkSession, table: InputTable, part: Part, files: Sequence[str]) -> DataFrame:
    """Read files that hold the columns in the same way, each as its footer says, and make them what the table has."""
    reads: dict[str, DataType] = {}
    for column in filter(None, part.columns.values()):
        top, below = column.path[0], _below(column)
        reads[top] = _merged(reads[top], below) if top in reads else below
    schema = StructType([StructField(top, kind) for top, kind in reads.items()])
    session = _telling_case_apart(spark) if table.twins else spark
    # By position: a user's column may have any name, be it that of a column of Spark's own.
    rows = read_parquet(session, [table.root / file for file in files], schema).toDF(*map(str, range(len(reads))))
    metadata = Column(rows._jdf.metadataColumn("_metadata"))
    file = _relative(table.root, metadata["file_path"]).alias(FILE)
    place = {top: str(at) for at, top in enumerate(reads)}
    made = [
        F.lit(None) if column is None else _converted(F.col(place[column.path[0]]), column)
        for column in part.columns.values()
    ]
    typed = [
        value.cast(spark_type(table.kinds[name])).alias(inner_name(name))
        for name, value in zip(part.columns, made, strict=True)
    ]
    rows = rows.select(*typed, file, metadata["row_index"].alias(ROW))
    rows = DataFrame(_of_session(spark, rows), spark) if table.twins else rows
    return _with_folders(spark, table, rows, files)


def _below(column: FileColumn) -> DataType:
    """Return what Spark is told to read of the file's column: of a struct, the wanted field alone."""
    kind = column.stored.read
    assert kind is not None
    for name in reversed(column.path[1:]):
        kind = StructType([StructField(name, kind)])
    return kind


def _merged(one: DataType, other: DataType) -> DataType:
    if not isinstance(one, StructType) or not isinstance(other, StructType):
        return one
    fields = {f.name: f.dataType for f in one}
    fields |= {f.name: _merged(fields[f.name], f.dataType) if f.name in fields else f.dataType for f in other}
    return StructType([StructField(name, kind) for name, kind in fields.items()])


def _converted(value: Column, column: FileColumn) -> Column:
    for name in column.path[1:]:
        value = value[name]
    return value if column.stored.convert is None else column.stored.convert(value)


def _with_folders(spark: SparkSession, table: InputTable, rows: DataFrame, files: Sequence[str]) -> DataFrame:
    """Fill in the columns that the names of the files' folders give."""
    wanted = sorted({name for file in files for name in table.folder_values.get(file, ())})
    if not wanted:
        return rows
    places = {name: f"_folder_{at}" for at, name in enumerate(wanted)}
    schema = StructType([StructField(name, StringType()) for name in (FILE, *places.values())])
    values = [(file, *[table.folder_values.get(file, {}).get(name) for name in wanted]) for file in files]
    joined = rows.join(F.broadcast(spark.createDataFrame(values, schema)), FILE)
    filled = {inner_name(name): F.coalesce(F.col(inner_name(name)), F.col(place)) for name, place in places.items()}
    return joined.withColumns(filled).select(*rows.columns)


def _relative(root: Location, path: Column) -> Column:
    """Return the path of a row's file below `root`; Spark gives it as a URI with percent escapes."""
    bare = F.regexp_replace(path, "^file:/+" if root.is_local else "^[a-z0-9]+://[^/]*/", "/")
    plain = F.url_decode(F.replace(bare, F.lit("+"), F.lit("%2B")))
    return F.substring(plain, len(root.path.rstrip("/")) + 2, 1 << 16)


def _with_derived(rows: DataFrame, source: Source) -> DataFrame:
    """Add the derived columns; the expressions see the columns that they read, by their users' names, and no others."""
    spare = dict(zip(rows.columns, spare_names(source.used, len(rows.columns)), strict=True))
    named = rows.toDF(*spare.values())
    named = named.withColumns({name: F.col(spare[inner_name(name)]) for name in source.used})
    kept = [F.col(name).alias(column) for column, name in spare.items()]
    return named.select(*kept, *[F.expr(sql).alias(inner_name(name)) for name, sql in source.derived.items()])


def _telling_case_apart(spark: SparkSession) -> SparkSession:
    """Return a session like this one in which columns may differ by case alone."""
    session = SparkSession(spark.sparkContext, spark._jsparkSession.cloneSession())
    session.conf.set("spark.sql.caseSensitive", "true")
    return session


def _of_session(spark: SparkSession, rows: DataFrame) -> Any:
    """Return rows of another session as rows of this one, whose settings hold for all that is made of them."""
    jvm: Any = spark.sparkContext._jvm
    return jvm.org.apache.spark.sql.Dataset.ofRows(spark._jsparkSession, rows._jdf.logicalPlan())


def _empty(spark: SparkSession, types: Mapping[str, DataType]) -> DataFrame:
    return spark.createDataFrame([], StructType([StructField(name, kind) for name, kind in types.items()]))


def _no_rows(spark: SparkSession, types: Mapping[str, DataType]) -> DataFrame:
    inner = {inner_name(name): kind for name, kind in types.items()}
    return _empty(spark, inner | {FILE: StringType(), ROW: LongType()})


def _bad(table: str, column: str, problem: str, hint: str) -> SettingsError:
    return SettingsError(f"inputs.{table}.derived.{column} {problem}", hint)
