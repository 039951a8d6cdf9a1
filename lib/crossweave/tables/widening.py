"""The one type that a column has over all files of a table, where they hold it in several."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import pyarrow as pa

from crossweave.tables.leaf_types import TIMESTAMP

MOST_DIGITS = 38
_DIGITS = {pa.int32(): 10, pa.int64(): 19, pa.uint64(): 20}


def widest(kinds: Iterable[pa.DataType]) -> pa.DataType | None:
    """Return the type that takes the values of all these types; None: there is none.

    Whole numbers beside floating ones become doubles, dates beside times times; null is beside everything. A text is
    beside nothing but texts.
    """
    return reduce(lambda wide, kind: None if wide is None else _wider(wide, kind), kinds, pa.null())


def filled(kind: pa.DataType, default: pa.DataType) -> pa.DataType:
    """Return a column's type where it may hold no value in any file, or nothing but empty lists: `default` says."""
    if pa.types.is_null(kind):
        return default
    if pa.types.is_list(kind) and pa.types.is_null(kind.value_type):
        return default if pa.types.is_list(default) else pa.list_(pa.string())
    return kind


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _wider(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if {one, other} == {pa.date32(), TIMESTAMP}:
        return TIMESTAMP
    return _wider_number(one, other) if _is_number(one) and _is_number(other) else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _wider_number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pa.types.is_floating(one) or pa.types.is_floating(other):
        return pa.float64()
    if {one, other} == {pa.int32(), pa.int64()}:
        return pa.int64()
    (digits, scale), (more, places) = _digits(one), _digits(other)
    whole, fraction = max(digits - scale, more - places), max(scale, places)
    return pa.decimal128(whole + fraction, fraction) if whole + fraction <= MOST_DIGITS else None


def _digits(kind: pa.DataType) -> tuple[int, int]:
    return (kind.precision, kind.scale) if pa.types.is_decimal(kind) else (_DIGITS[kind], 0)
