"""What the content of an item in a modality is, as Spark expressions: its value, emptiness and two hashes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F

SOMETHING = r"(?U)\S"  # any character that is no white space, in any script


def content_value(kind: str, columns: Mapping[str, Column]) -> Column:
    """Return the value that an encoder gets: a string, bytes, list of strings or list of floats; null if missing.

    `columns` are those of the modality, by their names. Text columns are joined by line breaks; blank ones are left out
    of the join. Attributes become a JSON object of the columns that are not null, an id its text.
    """
    values = list(columns.values())
    if kind == "attributes":
        filled = reduce(or_, [value.isNotNull() for value in values])
        return F.when(filled, F.to_json(F.struct(*[value.alias(name) for name, value in columns.items()])))
    if kind == "vector_id":
        return values[0].cast("string")
    if kind != "text":
        return values[0]
    parts = [F.when(value.rlike(SOMETHING), value) for value in values]
    missing = F.coalesce(*values).isNull()
    return F.when(~missing, F.concat_ws("\n", *parts))


def is_empty(kind: str, value: Column) -> Column:
    """Say whether a content is there but holds nothing: blank text, 0 bytes, an empty or all-blank list."""
    if kind == "text":
        return ~value.rlike(SOMETHING)
    if kind == "tags":
        return ~F.exists(value, lambda tag: F.coalesce(tag.rlike(SOMETHING), F.lit(False)))
    if kind == "vector":
        return F.size(value) == 0
    return F.length(value) == 0


def change_hash(kind: str, value: Column) -> Column:
    """Return xxhash64 of a content: cheap, only ever compared with the same item's of last night."""
    if kind in ("tags", "vector"):  # xxhash64 passes over nulls inside an array
        null = F.lit("\x00") if kind == "tags" else F.lit(float("nan"))
        value = F.transform(value, lambda element: F.coalesce(element, null))
    return F.xxhash64(value)


def content_hash(kind: str, value: Column) -> Column:
    """Return sha-256 (hex) of a content: its address in the feature tables, which nobody can forge."""
    canonical = F.to_json(value) if kind in ("tags", "vector") else value
    return F.sha2(canonical.cast("binary"), 256)
