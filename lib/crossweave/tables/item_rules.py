"""Rules over the catalog's columns, computed a night: what each of them says of each item."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from crossweave.errors import SettingsError
from crossweave.tables.expressions import check_condition
from crossweave.tables.paths import spare_names
from crossweave.tables.times import check_times, time_in
from crossweave.tables.values import values_in

OWN_COLUMNS = ("item_id", "title", "cold", "first_seen", "last_seen")
RUN_DATE = "run_date"
REMOVED = "removed"
"""The rule that nobody sets: an item that left the catalog since the model was trained."""


@dataclass(frozen=True)
class CatalogRules:
    """Rules as values: SQL conditions, and columns with values."""

    available: str | None = None
    allow: Mapping[str, Sequence[str]] = field(default_factory=dict)
    block: Mapping[str, Sequence[str]] = field(default_factory=dict)
    segments: Mapping[str, str] = field(default_factory=dict)  # name -> condition on items
    at_most: Sequence[str] = ()  # columns
    time: str | None = None  # column of freshness
    time_unit: str = "s"  # where it is a number

    @property
    def names(self) -> tuple[str, ...]:
        """The rules that hide items from everybody, in the order of their bits."""
        given = ("available",) if self.available else ()
        return (REMOVED, *given, *(f"allow.{c}" for c in self.allow), *(f"block.{c}" for c in self.block))


def check_names(rules: CatalogRules, attributes: Sequence[str]) -> None:
    """Raise SettingsError naming the rule whose column the catalog will lack."""
    columns = [*_own_columns(attributes), *(name for name in attributes if name.lower() != "item_id")]
    named = [(f"allow.{c}", c) for c in rules.allow] + [(f"block.{c}", c) for c in rules.block]
    named += [(f"at_most.{c}", c) for c in rules.at_most] + ([("freshness.column", rules.time)] if rules.time else [])
    for rule, column in named:
        if column not in columns:
            raise SettingsError(
                f"score.rules.{rule} names a column that the catalog lacks; it has {', '.join(columns)}",
                "add the column to inputs.items.attributes",
            )
        twins = [name for name in columns if name.lower() == column.lower()]
        if len(twins) > 1:
            raise SettingsError(
                f"score.rules.{rule}: {' and '.join(twins)} differ only in case, which rules do not tell apart",
                "keep one of them in inputs.items.attributes, or derive one under another name",
            )


def check_rules(catalog: DataFrame, rules: CatalogRules, attributes: Sequence[str], date: datetime.date) -> None:
    """Raise SettingsError naming the rule where a condition cannot be computed or a column is not there.

    Raises InputContractError where the column of freshness holds no times.
    """
    check_names(rules, attributes)
    columns = _in_columns(catalog, attributes, date)
    sample = catalog.sparkSession.createDataFrame([], columns.schema)
    if rules.available:
        check_condition(sample, rules.available, "score.rules.available")
    for name, condition in rules.segments.items():
        check_condition(sample, condition, f"score.rules.segments.{name}.items")
    if rules.time:
        check_times(columns, rules.time, rules.time_unit, "score.rules.freshness.column", rules.time)


def ruled_items(
    catalog: DataFrame, item_index: DataFrame, rules: CatalogRules, attributes: Sequence[str], date: datetime.date
) -> DataFrame:
    """Return one row an indexed item.

    item_index; hidden (bit r: the r-th of `rules.names` hides the item); open (array of booleans: users of the segment
    may have it); categories (array of arrays of strings: its values in the columns of at_most); age (days until `date`,
    null where unknown). A condition that is null does not hold; an item without a value is not among the allowed.
    """
    index, status = spare_names(attributes, 2)
    joined = item_index.join(catalog, "item_id", "left")
    rows = _in_columns(joined, attributes, date, {index: "item_index", status: "status"})
    hides: list[Column] = [F.coalesce(F.col(status) != "active", F.lit(True))]
    if rules.available:
        hides.append(~_holds(rules.available))
    hides += [~_has(column, values) for column, values in rules.allow.items()]
    hides += [_has(column, values) for column, values in rules.block.items()]
    bits = [F.when(hide, F.lit(1 << place)).otherwise(0) for place, hide in enumerate(hides)]
    age = F.lit(None).cast("double")
    if rules.time:
        age = (
            F.unix_timestamp(F.lit(date).cast("timestamp")) - F.unix_timestamp(time_in(rules.time, rules.time_unit))
        ) / 86_400.0
    return rows.select(
        F.col(index).alias("item_index"),
        sum(bits, F.lit(0)).alias("hidden"),
        F.array(*[_holds(condition) for condition in rules.segments.values()]).cast("array<boolean>").alias("open"),
        F.array(*[values_in(c) for c in rules.at_most]).cast("array<array<string>>").alias("categories"),
        age.alias("age"),
    )


def _in_columns(
    catalog: DataFrame, attributes: Sequence[str], date: datetime.date, beside: Mapping[str, str] | None = None
) -> DataFrame:
    """Return the catalog with each attribute as a column of strings, the run's date, and the columns of `beside`.

    An attribute hides a column of the catalog that has its name, all but the id.
    """
    own = {name: F.lit(date) if name == RUN_DATE else F.col(name) for name in _own_columns(attributes)}
    own |= {name: F.col(column) for name, column in (beside or {}).items()}
    kept = {name: F.try_element_at("attributes", F.lit(name)) for name in attributes if name.lower() != "item_id"}
    return catalog.select(*[column.alias(name) for name, column in (own | kept).items()])


def _own_columns(attributes: Sequence[str]) -> list[str]:
    """Return the catalog's own columns that no attribute hides."""
    hidden = {name.lower() for name in attributes} - {"item_id"}
    return [name for name in (*OWN_COLUMNS, RUN_DATE) if name not in hidden]


def _holds(condition: str) -> Column:
    return F.coalesce(F.expr(condition), F.lit(False))


def _has(column: str, values: Sequence[str]) -> Column:
    return F.arrays_overlap(values_in(column), F.array(*[F.lit(value) for value in values]).cast("array<string>"))
