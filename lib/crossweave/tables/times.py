"""Times as inputs have them: dates, timestamps, numbers in a unit since 1970 and ISO texts become timestamps.

What cannot be read, or lies outside the years 1 to 9999, is null; nothing of a single row ends a night.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from crossweave.errors import InputContractError
from crossweave.tables.paths import inner_name, quoted, user_column

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of numbers that count from 1970, as parts of a second."""
UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
INTEGERS = ("tinyint", "smallint", "int", "bigint")
NUMBERS = (*INTEGERS, "float", "double", "decimal")

FIRST_SECOND, END_SECOND = -62_135_596_800, 253_402_300_800  # years 1 to 9999: what Python, Arrow and Delta can say
EARLIEST_EVENT = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
"""Events are recorded by machines whose clocks begin here, and tensors keep -1 for "unknown". A 0 is taken as it is."""
LONG_AGO = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)
"""A whole column of events before it counts days, milliseconds read as seconds, dates written as numbers, or the ticks
of Windows read as nanoseconds."""
NEVER = datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC)
"""From here on a time of change stands for "unknown" or "for ever"."""
WHOLE = 0.9
"""A column of which this share cannot be used has no bad rows: it is another column than the settings take it for."""

_NUMBER = r"^[+-]?(\d{5,}(\.\d*)?|\d(\.\d+)?[eE]\+?\d+)$"  # four digits are a year
_ISO = r"^[+-]?\d{4,6}(-\d{1,2}(-\d{1,2}([ T].*)?)?)?$"  # without a date, Spark would take a time for one of today
_DATE = r"^([+-]?\d{4,6}-\d{1,2}-\d{1,2})"
_REWRITTEN = (
    (r"^(\d{4})(\d\d)(\d\d)[Tt](\d\d)", "$1-$2-$3T$4"),  # the basic format
    (r"(T\d\d)(\d\d)(\d\d)", "$1:$2:$3"),
    (r"(T\d\d)(\d\d)(?!\d)", "$1:$2"),
    (rf"{_DATE}t", "$1T"),
    (r"(\d)z$", "$1Z"),
    (r"(:\d\d),(\d)", "$1.$2"),  # a comma before the fraction
    (rf"{_DATE}[ T](\d\d)(?![\d:])", "$1T$2:00"),  # minutes, then seconds, that were left out
    (r"(T\d{1,2}:\d{1,2}):?(?![\d:])", "$1:00"),
)
"""What ISO 8601 allows beyond what Spark reads."""
_EXAMPLES = 1000
TICKS = (11_644_473_600, 62_135_596_800)
"""Seconds from where Windows (1601) and .NET (year 1) begin to count tenths of a microsecond, to 1970."""
_EXCEL = (29_221, 73_051)
"""What Excel counts in days (from 1899-12-30) between 1980 and 2100; days since 1970 reach the first in 2050."""
_SECONDS_A_YEAR = 31_556_952


def latest_event(date: datetime.date) -> datetime.datetime:
    """Return the first moment that no event of a run of this date may have: bookings reach into the year after it."""
    return datetime.datetime(date.year + 2, 1, 1, tzinfo=datetime.UTC)


def as_time(source: DataFrame, name: str | None, unit: str = "s") -> Column:
    """Return a column as timestamps, numbers being `unit` since 1970; all null without a name."""
    if name is None:
        return F.lit(None).cast("timestamp")
    kind, column = dict(source.dtypes)[name], F.col(quoted(name))
    if kind.startswith(NUMBERS):
        return _of_number(column, kind in INTEGERS, unit)
    if kind == "string":
        return _of_text(name, unit)
    if kind == "date":
        days = F.datediff(column, F.lit(datetime.date(1970, 1, 1)))
        column = F.when((days >= FIRST_SECOND // 86_400) & (days < END_SECOND // 86_400), column)
    return _within_years(column.cast("timestamp"))


def time_in(column: str, unit: str = "s") -> Column:
    """Read a kept attribute, a text, as a time: an ISO date or timestamp, a year, or a number of at least 5 digits."""
    return _of_text(column, unit)


def known_time(source: DataFrame, name: str | None, unit: str) -> Column:
    """Return the time of change in a user's column; null, so that the row is always read, for what means "unknown".

    Such are 0, and years that programs put where they know none: 1, 1753, 9999.
    """
    time = as_time(source, name and inner_name(name), unit)
    return F.when((time > F.lit(EARLIEST_EVENT)) & (time < F.lit(NEVER)), time)


def at_least(source: DataFrame, name: str, unit: str, micros: int) -> Column:
    """Say whether a time is `micros` since 1970 or later; of timestamps and integers Parquet's row groups know it."""
    kind = dict(source.dtypes)[inner_name(name)]
    if kind in INTEGERS:
        return user_column(name) >= F.lit(micros * UNITS[unit] // 10**6)
    if kind == "timestamp":
        return user_column(name) >= F.timestamp_micros(F.lit(micros))
    return as_time(source, inner_name(name), unit) >= F.timestamp_micros(F.lit(micros))


def plausible(time: Column, latest: datetime.datetime) -> Column:
    """Say whether a time is one that an event can have; null where there is none."""
    return (time >= F.lit(EARLIEST_EVENT)) & (time < F.lit(latest))


def wrong_column(
    rows: DataFrame, column: str, unit: str, setting: str, counts: str, table: str = "", name: str = ""
) -> InputContractError:
    """Return the error for a column that holds hardly a usable time: an example, what it would mean, how to mend it.

    `setting` is the path of the setting that names the column, `table` the section that has its time_unit and derived
    columns (default: the setting's own); `counts` says how many of how many cannot be used. `name` is what the column
    is called outside (default: the same).
    """
    text = F.col(quoted(column)).cast("string").alias("value")
    values = [row["value"] for row in rows.select(text).where("value is not null").limit(_EXAMPLES).collect()]
    numbers, name = _numbers(values), name or column
    table = table or setting.rpartition(".")[0]
    if len(numbers) == len(values) and values and not dict(rows.dtypes)[column].startswith(("date", "timestamp")):
        year = math.floor(1970 + numbers[0] / UNITS[unit] / _SECONDS_A_YEAR) if math.isfinite(numbers[0]) else "none"
        what = f"{values[0]} as {UNIT_WORDS[unit]} since 1970 is in the year {year}"
        return InputContractError(
            f"{setting}: {counts} in {name!r} are no time it can have: {what}", _mend(table, name, numbers)
        )
    hint = (
        f"if it is text, inputs take ISO dates and timestamps; for others say how to read them, as "
        f"{table}.derived: {{moment: \"try_to_timestamp({quoted(name)}, 'dd.MM.yyyy HH:mm')\"}} and {setting}: moment"
    )
    example = repr(values[0]) if values else "null"
    return InputContractError(f"{setting}: {counts} in {name!r} are no time it can have, such as {example}", hint)


def check_times(rows: DataFrame, column: str, unit: str, setting: str, name: str) -> None:
    """Check kept attributes in `column`, called `name` outside, that are read as times.

    Raises InputContractError where nine in ten of the values that are there cannot be read.
    """
    found = rows.agg(F.count(quoted(column)).alias("given"), F.count(time_in(column, unit)).alias("read")).first()
    assert found is not None
    bad = found["given"] - found["read"]
    if found["given"] and bad >= WHOLE * found["given"]:
        counts = f"{bad:,} of {found['given']:,} values"
        raise wrong_column(rows, column, unit, setting, counts, "inputs.items", name)


def _of_number(number: Column, whole: bool, unit: str) -> Column:
    parts, value = UNITS[unit], number.cast("double")
    within = (value >= float(FIRST_SECOND * parts)) & (value < float(END_SECOND * parts))  # NaN is above every number
    if whole and parts <= 10**6:
        micros = number.cast("bigint") * F.lit(10**6 // parts)
    elif whole:  # to the exact microsecond below: `at_least` compares the numbers themselves
        each = F.lit(parts // 10**6)
        micros = F.call_function("div", number - F.pmod(number, each), each)
    else:
        micros = F.round(value * F.lit(10**6 / parts)).cast("bigint")
    return F.when(within, F.timestamp_micros(micros))


def _of_text(name: str, unit: str) -> Column:
    text = F.expr(f"trim(cast({quoted(name)} as string))")
    number = F.when(text.rlike(_NUMBER), F.expr(f"try_cast(trim(cast({quoted(name)} as string)) as double)"))
    moment = F.when(text.rlike(_ISO), F.try_to_timestamp(text))
    return F.coalesce(_of_number(number, False, unit), _within_years(moment), _within_years(_of_iso(text)))


def _of_iso(text: Column) -> Column:
    """Read the rest of what ISO 8601 allows: hour 24 is the next day's 0."""
    for pattern, replacement in _REWRITTEN:
        text = F.regexp_replace(text, pattern, replacement)
    late, end = text.rlike(rf"{_DATE}T24:00:00(?!\.0*[1-9])"), F.expr("interval 1 day")
    moment = F.try_to_timestamp(F.regexp_replace(text, "T24:", "T00:"))
    return F.when(text.rlike(_ISO), F.when(late, moment + end).otherwise(F.try_to_timestamp(text)))


def _within_years(time: Column) -> Column:
    micros = F.unix_micros(time)
    return F.when((micros >= FIRST_SECOND * 10**6) & (micros < END_SECOND * 10**6), time)


def _numbers(values: Sequence[str]) -> list[float]:
    found = []
    for value in values:
        try:
            found.append(float(value))
        except ValueError:
            continue
    return found


def _mend(table: str, name: str, numbers: Sequence[float]) -> str:
    """Say which setting makes times since 1980 of nearly all numbers; the year 2100 stands for "far ahead"."""

    def fits(seconds: Sequence[float]) -> bool:
        return sum(LONG_AGO.timestamp() <= s < 4_102_444_800 for s in seconds) >= WHOLE * len(seconds)

    column, expression = quoted(name), ""
    ticks = next((epoch for epoch in TICKS if fits([n / 10**7 - epoch for n in numbers])), None)
    unit = next((u for u, parts in UNITS.items() if fits([n / parts for n in numbers])), None)
    if ticks is not None:
        expression = f"timestamp_micros(cast({column} as bigint) div 10 - {ticks}000000)"
    elif unit is not None:
        return f"set {table}.time_unit: {unit}"
    elif sum(19_800_101 <= n < 21_000_101 for n in numbers) >= WHOLE * len(numbers):
        expression = f"try_to_timestamp(cast(cast({column} as bigint) as string), 'yyyyMMdd')"
    elif sum(_EXCEL[0] <= n < _EXCEL[1] for n in numbers) >= WHOLE * len(numbers):
        expression = f"timestamp_seconds((cast({column} as double) - 25569) * 86400)"
    elif fits([n * 86_400 for n in numbers]):
        expression = f"date_add(date'1970-01-01', cast({column} as int))"
    else:
        expression = f"timestamp_seconds({column} + 1577836800)"
    note = "" if "1577836800" not in expression else ", which counts from 2020: put the moment that yours counts from"
    return f'set {table}.derived: {{moment: "{expression}"}} and name moment instead of {name}{note}'
