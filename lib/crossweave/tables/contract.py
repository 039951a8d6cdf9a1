"""What the columns of the input tables must be; `footers` compares the files with it before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class ColumnType:
    """A family of Arrow types that a column may have, and the one it has where it holds no value at all."""

    words: str
    accepts: Callable[[pa.DataType], bool]
    default: pa.DataType = field(default_factory=pa.string)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list_of(inner: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: (
        (pa.types.is_list(kind) or pa.types.is_large_list(kind))
        and (inner(kind.value_type) or pa.types.is_null(kind.value_type))
    )


ID = ColumnType("an integer or a string", lambda t: pa.types.is_integer(t) or _is_text(t))
TEXT = ColumnType("a string", _is_text)
BYTES = ColumnType("binary", lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t), pa.binary())
TAGS = ColumnType("a list of strings", _is_list_of(_is_text), pa.list_(pa.string()))
VECTOR = ColumnType("a list of float or double", _is_list_of(pa.types.is_floating), pa.list_(pa.float32()))
SCALAR = ColumnType(
    "a number, string, boolean, date or timestamp", lambda t: not (pa.types.is_nested(t) or BYTES.accepts(t))
)
NUMBER = ColumnType(
    "a number", lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t), pa.float64()
)
TIME = ColumnType(
    "a timestamp, a date, a number since 1970 or an ISO text",
    lambda t: NUMBER.accepts(t) or pa.types.is_timestamp(t) or pa.types.is_date(t) or _is_text(t),
)
FLAG = ColumnType("a boolean", pa.types.is_boolean, pa.bool_())
ANY = ColumnType("any type", lambda t: True)

KIND_COLUMNS = {
    "text": TEXT,
    "image": BYTES,
    "audio": BYTES,
    "video": BYTES,
    "tags": TAGS,
    "attributes": SCALAR,
    "vector": VECTOR,
    "vector_id": ID,
}
"""What a modality's columns must be, by its kind."""


def wanted_columns(pairs: Iterable[tuple[str | None, ColumnType]]) -> dict[str, ColumnType]:
    """Return what each column must be: all that the settings ask for that name it; one without a name is not wanted."""
    wanted: dict[str, ColumnType] = {}
    for name, kind in ((name, kind) for name, kind in pairs if name is not None):
        before = wanted.get(name, ANY)
        wanted[name] = kind if before in (ANY, kind) else before if kind is ANY else _both(before, kind)
    return wanted


def _both(one: ColumnType, other: ColumnType) -> ColumnType:
    words = f"{one.words}, and {other.words} for another setting"
    return ColumnType(words, lambda kind: one.accepts(kind) and other.accepts(kind), one.default)
