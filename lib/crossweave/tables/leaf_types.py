"""What the leaves of Parquet files are, by physical and logical type, and how Spark is told to read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_type

TIMESTAMP = pa.timestamp("us", "UTC")
LARGEST_MILLIS = (1 << 63) // 1000 - 1


@dataclass(frozen=True)
class Stored:
    """A column, or a part of one, as a file holds it."""

    words: str  # as messages name it; columns of the same words are read the same way
    kind: pa.DataType  # what its values are, once read and converted
    read: T.DataType | None  # what Spark is told to read; None: it cannot
    convert: Callable[[Column], Column] | None = None  # from what Spark reads to `kind`


def spark_type(kind: pa.DataType) -> T.DataType:
    """Return the Spark type of a kind of value; null becomes a string."""
    if pa.types.is_list(kind):
        return T.ArrayType(spark_type(kind.value_type))
    if pa.types.is_map(kind):
        return T.MapType(spark_type(kind.key_type), spark_type(kind.item_type))
    if pa.types.is_struct(kind):
        return T.StructType([T.StructField(kind[i].name, spark_type(kind[i].type)) for i in range(kind.num_fields)])
    if pa.types.is_decimal(kind):
        return T.DecimalType(kind.precision, kind.scale)
    return _SPARK_TYPES[kind]


def kind_of(spark: T.DataType) -> pa.DataType:
    """Return the kind of value that a Spark type is, as `ColumnType.accepts` takes it."""
    return to_arrow_type(spark)


_SPARK_TYPES: Mapping[pa.DataType, T.DataType] = {
    pa.null(): T.StringType(),
    pa.bool_(): T.BooleanType(),
    pa.int32(): T.IntegerType(),
    pa.int64(): T.LongType(),
    pa.uint64(): T.DecimalType(20, 0),
    pa.float32(): T.FloatType(),
    pa.float64(): T.DoubleType(),
    pa.string(): T.StringType(),
    pa.binary(): T.BinaryType(),
    pa.date32(): T.DateType(),
    TIMESTAMP: T.TimestampType(),
}


def leaf(column: pq.ColumnSchema) -> Stored:
    """Return how a leaf column is held."""
    physical = column.physical_type
    logical: dict[str, Any] = json.loads(column.logical_type.to_json())
    what = logical["Type"]
    if what == "Null":
        return Stored("null", pa.null(), _BY_PHYSICAL[physical][1])
    if what == "Decimal":
        return _decimal(column)
    if what == "Timestamp" and physical == "INT64":
        return _timestamp(logical["timeUnit"])
    if what == "Time":
        return _time(logical["timeUnit"], _BY_PHYSICAL[physical][1])
    if what == "Int":
        return _integer(logical["bitWidth"], logical["isSigned"])
    if physical == "INT96":
        return Stored("timestamp (INT96)", TIMESTAMP, T.TimestampType())
    named = {
        ("String", "BYTE_ARRAY"): Stored("string", pa.string(), T.StringType()),
        ("Enum", "BYTE_ARRAY"): Stored("string (enum)", pa.string(), T.StringType()),
        ("JSON", "BYTE_ARRAY"): Stored("string (json)", pa.string(), T.StringType()),
        ("BSON", "BYTE_ARRAY"): Stored("binary", pa.binary(), T.BinaryType()),
        ("Date", "INT32"): Stored("date", pa.date32(), T.DateType()),
        ("UUID", "FIXED_LEN_BYTE_ARRAY"): Stored("uuid", pa.string(), T.BinaryType(), _uuid),
    }.get((what, physical))
    if named is not None:
        return named
    if what != "None":
        return Stored(f"{what} ({physical})", pa.null(), None)
    kind, read = _BY_PHYSICAL[physical]
    return Stored(str(kind), kind, read)


_BY_PHYSICAL: Mapping[str, tuple[pa.DataType, T.DataType]] = {
    "BOOLEAN": (pa.bool_(), T.BooleanType()),
    "INT32": (pa.int32(), T.IntegerType()),
    "INT64": (pa.int64(), T.LongType()),
    "INT96": (TIMESTAMP, T.TimestampType()),
    "FLOAT": (pa.float32(), T.FloatType()),
    "DOUBLE": (pa.float64(), T.DoubleType()),
    "BYTE_ARRAY": (pa.binary(), T.BinaryType()),
    "FIXED_LEN_BYTE_ARRAY": (pa.binary(), T.BinaryType()),
}


def _integer(bits: int, signed: bool) -> Stored:
    words = f"{'' if signed else 'u'}int{bits}"
    if bits == 64:
        kind = pa.int64() if signed else pa.uint64()
        return Stored(words, kind, spark_type(kind))
    wide = bits == 32 and not signed
    return Stored(words, pa.int64() if wide else pa.int32(), T.LongType() if wide else T.IntegerType())


def _decimal(column: pq.ColumnSchema) -> Stored:
    precision, scale = column.precision, column.scale
    words = f"decimal({precision}, {scale})"
    if precision > T.DecimalType(38).precision:
        return Stored(words, pa.decimal256(precision, scale), None)
    return Stored(words, pa.decimal128(precision, scale), T.DecimalType(precision, scale))


def _timestamp(unit: str) -> Stored:
    """Spark reads microseconds; nanoseconds are cut down to them, milliseconds held within what microseconds reach."""
    words = f"timestamp ({unit})"
    if unit == "microseconds":
        return Stored(words, TIMESTAMP, T.TimestampType())
    if unit == "nanoseconds":
        return Stored(words, TIMESTAMP, T.LongType(), lambda column: F.timestamp_micros(_floored(column, 1000)))

    def convert(column: Column) -> Column:
        held = F.least(F.greatest(column, F.lit(-LARGEST_MILLIS)), F.lit(LARGEST_MILLIS))
        return F.when(column.isNotNull(), F.timestamp_millis(held))

    return Stored(words, TIMESTAMP, T.LongType(), convert)


def _time(unit: str, read: T.DataType) -> Stored:
    """A time of day becomes its text: 07:08:09, with the fraction that it has, down to microseconds."""

    def convert(column: Column) -> Column:
        micros = {"milliseconds": column.cast("long") * 1000, "nanoseconds": _floored(column, 1000)}.get(unit, column)
        return F.substring(F.timestamp_micros(micros).cast("string"), 12, 15)

    return Stored(f"time ({unit})", pa.string(), read, convert)


def _floored(column: Column, by: int) -> Column:
    """Divide whole numbers, towards minus infinity, with no detour through floating ones."""
    return F.call_function("div", column, F.lit(by)) - (column % by < 0).cast("int")


def _uuid(column: Column) -> Column:
    text = F.lower(F.hex(column))
    parts = [F.substring(text, start, length) for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))]
    return F.concat(parts[0], *[piece for part in parts[1:] for piece in (F.lit("-"), part)])
