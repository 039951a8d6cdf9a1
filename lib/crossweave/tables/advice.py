"""What to do about a column of the wrong type: the expression that mends it."""

from __future__ import annotations

import re

import pyarrow as pa

from crossweave.tables.paths import quoted

DERIVED = ("items", "interactions", "users")
"""The input tables whose settings have `derived`."""
_CASTS = {
    pa.string(): "cast({} as string)",
    pa.float64(): "try_cast({} as double)",
    pa.bool_(): "try_cast({} as boolean)",
}


def advice(table: str, column: str, wanted: pa.DataType, found: pa.DataType) -> str:
    """Return a sentence on a column of a table that is of type `found` and should be like `wanted`."""
    if pa.types.is_struct(found):
        fields = [found[i].name for i in range(found.num_fields) if found[i].type == wanted]
        names = [f"{column}.{name}" for name in fields or [found[i].name for i in range(found.num_fields)]]
        return f"name a field of the struct: {' or '.join(names)}"
    name = column if re.fullmatch(r"[A-Za-z_]\w*", column) else quoted(column)
    expression = _expression(wanted, found)
    if not expression or table not in DERIVED:
        return f"name another column, or write it as {wanted}"
    made = "my_" + (re.sub(r"\W+", "_", column).strip("_").lower() or "column")
    return (
        f"name a column that is derived from it: inputs.{table}.derived: "
        f'{{{made}: "{expression.format(name)}"}}, and {made} where {column} stands now'
    )


def _expression(wanted: pa.DataType, found: pa.DataType) -> str:
    number = pa.types.is_floating(found) or pa.types.is_decimal(found)
    if wanted == pa.string() and number:
        return "cast({} as bigint)"  # an id; a text would be 7.0 for 7
    if wanted == pa.string() and pa.types.is_binary(found):
        return "decode({}, 'UTF-8')"
    if pa.types.is_list(wanted) and pa.types.is_string(wanted.value_type):
        return "split({}, ',')" if pa.types.is_string(found) else "cast({} as array<string>)"
    if pa.types.is_list(wanted):
        return "from_json({}, 'array<float>')" if pa.types.is_string(found) else "cast({} as array<float>)"
    if wanted == pa.binary() and pa.types.is_string(found):
        return "unbase64({})"
    return "" if pa.types.is_nested(found) else _CASTS.get(wanted, "")
