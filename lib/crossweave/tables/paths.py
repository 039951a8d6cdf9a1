"""Paths and column names as Spark is to take them: to the letter, never as a pattern, a URI or an expression.

Spark reads `[`, `{`, `*`, `?` and a backslash in a path that it is to open as a pattern, delta-rs decodes `%20`, and
`F.col` takes a dot for a field. Whoever hands a path or a user's column to one of them goes through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from crossweave.errors import InputContractError, SettingsError
from crossweave.storage.location import Location
from crossweave.storage.records import Place

PATTERN = re.compile(r"([\\{}\[\]*?])")
_UNFIT = re.compile(r"%[0-9A-Fa-f]{2}|[#?:\\\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[^a-z0-9]")


def spark_path(place: Place) -> str:
    """Return a place as Spark's writers and Hadoop take it."""
    return Location.of(place).for_spark


def read_parquet(spark: SparkSession, paths: Iterable[Place], schema: StructType | None = None) -> DataFrame:
    """Read Parquet files or folders, each of which is there; without a schema, that of the files.

    Raises InputContractError where Java cannot name them: it takes the letters that the locale of its start knows.
    """
    given = [spark_path(path) for path in paths]
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    encoding = str(jvm.System.getProperty("sun.jnu.encoding"))
    local = () if encoding.upper() == "UTF-8" else (path for path in given if path.startswith("file:"))
    strange = next((path for path in local if not path.isascii()), None)
    if strange is not None:
        raise InputContractError(
            f"Java cannot open {strange.removeprefix('file:')}: its locale knows only the letters of {encoding}",
            "export LC_ALL=C.UTF-8 before the job, on every host, or rename the file",
        )
    # Escaped one by one: with Spark's own switch against patterns, n such paths are read n times each.
    # Dates and times are as they were written, however old: files by Spark 2 and Hive are told by their footers.
    reader = spark.read.option("datetimeRebaseMode", "CORRECTED").option("int96RebaseMode", "CORRECTED")
    reader = reader if schema is None else reader.schema(schema)
    return reader.parquet(*[PATTERN.sub(r"\\\1", path) for path in given])


def check_workspace(folder: Place) -> None:
    """Raise SettingsError where the tables' log (delta-rs) or Hadoop would take a workspace's path for another one."""
    found = _UNFIT.search(Location.of(folder).path)
    if found is not None:
        raise SettingsError(
            f"the workspace {folder}: delta-rs or Hadoop takes {found.group()!r} in a path for something else",
            "choose a path without # ? : backslashes, line breaks and percent signs that two hex digits follow",
        )


def inner_name(column: str) -> str:
    """Return the name that a user's column has inside our frames: no two are alike, even where case is not told apart.

    It never begins with an underscore, as the columns do that we add, and needs no quotes.
    """
    return "c_" + _PLAIN.sub(lambda letter: f"_{ord(letter.group()):x}_", column)


def user_column(name: str) -> Column:
    """Return a user's column of a frame of `read_source`."""
    return F.col(inner_name(name))


def spare_names(taken: Iterable[str], count: int) -> list[str]:
    """Return names for columns of ours beside columns of these names, whatever those are."""
    mark = "_"
    while any(name.startswith(mark) for name in taken):
        mark += "_"
    return [f"{mark}{number}" for number in range(count)]


def quoted(name: str) -> str:
    """Return a column's name as Spark SQL takes it to the letter."""
    return "`" + name.replace("`", "``") + "`"
