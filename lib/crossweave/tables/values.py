"""Columns of the input tables as the types that our tables have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DataType, MapType, StringType, StructType

from crossweave.tables.paths import inner_name, quoted, user_column

NOT_UTF8 = "not_utf8"
"""Why a row or a content is refused whose text is in another encoding: nothing that reads it later could."""


def text_of(source: DataFrame, name: str) -> Column:
    """Return a user's column as text; bytes that are not UTF-8 become U+FFFD: ask `misread`."""
    value = user_column(name)
    return _decoded(value) if _is_bytes(source.schema[inner_name(name)].dataType) else value.cast("string")


def misread(source: DataFrame, names: Iterable[str], *, binary: bool = True) -> Column:
    """Say whether one of a user's columns holds a text that is not UTF-8, at any depth; `binary` ones are texts too."""
    kinds = {name: source.schema[inner_name(name)].dataType for name in names}
    texts = {name: StringType() if binary and _is_bytes(kind) else kind for name, kind in kinds.items()}
    found = [_misread(user_column(name).cast(kind), kind) for name, kind in texts.items()]
    return reduce(or_, map(_surely, found), F.lit(False))


def _misread(value: Column, kind: DataType) -> Column | None:
    """Say it of a value; None for a type that holds no text."""
    if isinstance(kind, StringType):
        return value != _decoded(value)
    if isinstance(kind, ArrayType):
        return _of_any(value, kind.elementType)
    if isinstance(kind, MapType):
        sides = [_of_any(F.map_keys(value), kind.keyType), _of_any(F.map_values(value), kind.valueType)]
    elif isinstance(kind, StructType):
        sides = [_misread(value.getField(field.name), field.dataType) for field in kind]
    else:
        return None
    held = [_surely(side) for side in sides if side is not None]
    return reduce(or_, held) if held else None


def _of_any(values: Column, kind: DataType) -> Column | None:
    if _misread(F.lit(None), kind) is None:
        return None
    return F.exists(values, lambda value: _surely(_misread(value, kind)))


def _surely(found: Column | None) -> Column:
    return F.lit(False) if found is None else F.coalesce(found, F.lit(False))


def _is_bytes(kind: DataType) -> bool:
    return isinstance(kind, StringType | BinaryType)


def _decoded(value: Column) -> Column:
    return F.decode(value.cast("binary"), "UTF-8")


def as_strings(source: DataFrame, names: Sequence[str]) -> Column:
    """Return a map of a user's columns as strings, by their names; a null has no entry, a nested value becomes JSON."""
    entries: list[Column] = []
    for name in names:
        nested = isinstance(source.schema[inner_name(name)].dataType, ArrayType | MapType | StructType)
        entries += [F.lit(name), F.to_json(user_column(name)) if nested else text_of(source, name)]
    if not entries:
        return F.from_json(F.lit("{}"), "map<string, string>")
    return F.map_filter(F.create_map(*entries), lambda _, value: value.isNotNull())


def with_refusal(rows: DataFrame, id_column: str, name: str) -> DataFrame:
    """Make a column `name` whole: null_id for a blank id, duplicate_id for all but the first row of one, else null.

    It holds not_utf8 already where that is so. The first is the one of the first file (column `file`), then of the
    first row (column `row`).
    """
    copy = F.row_number().over(Window.partitionBy(id_column).orderBy("file", "row"))
    nameless = F.coalesce(F.trim(id_column) == "", F.lit(True))
    unread = F.when(F.col(name) == NOT_UTF8, NOT_UTF8)
    refused = unread.when(nameless, "null_id").when(F.col("_copy") > 1, "duplicate_id")
    return rows.withColumn("_copy", copy).withColumn(name, refused).drop("_copy")


def values_in(column: str) -> Column:
    """Return the values of a kept attribute as array<string>: those of a list, the value itself, or none."""
    text = F.col(quoted(column)).cast("string")
    listed = F.when(text.startswith("["), F.from_json(text, "array<string>"))  # lists are kept as JSON
    return F.array_distinct(F.array_compact(F.coalesce(listed, F.array(text))))
