"""Times as inputs have them, value by value."""

import datetime
import math
from decimal import Decimal

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from crossweave.errors import InputContractError
from crossweave.tables.expressions import columns_of
from crossweave.tables.item_gaps import item_gaps
from crossweave.tables.item_rows import ItemColumns
from crossweave.tables.paths import inner_name
from crossweave.tables.times import as_time, at_least, check_times, known_time, latest_event, plausible, wrong_column

MOMENT = "2025-01-01 00:00:00"
SECONDS = 1_735_689_600
KINDS = {
    "whole": ("bigint", [SECONDS, 0, -(10**12), 2**63 - 1], [MOMENT, "1970-01-01 00:00:00", None, None]),
    "small": ("int", [SECONDS, None], [MOMENT, None]),
    "real": (
        "double",
        [SECONDS + 0.25, math.nan, math.inf, 1e300, -1.0],
        [f"{MOMENT}.25", None, None, None, "1969-12-31 23:59:59"],
    ),
    "exact": ("decimal(20,0)", [Decimal(SECONDS), Decimal(10**19)], [MOMENT, None]),
    "day": ("date", [datetime.date(2025, 1, 1), datetime.date(1, 1, 1)], [MOMENT, "0001-01-01 00:00:00"]),
    "local": ("timestamp_ntz", [datetime.datetime(1811, 3, 4, 5, 6, 7)], ["1811-03-04 05:06:07"]),
    "text": (
        "string",
        ["2025-01-01", "2025-01-01T02:00:00+02:00", " 2025-01-01T00:00:00Z ", "2025", str(SECONDS), "1.7356896E9", "1811-02-03"],  # noqa: E501
        [MOMENT] * 6 + ["1811-02-03 00:00:00"],
    ),
    "noise": ("string", ["soon", "", "12:30:00", "today", "01.02.2025", "2025-13-01", "+99999-01-01"], [None] * 7),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_gives_its_moments_and_null_for_what_is_none(spark: SparkSession, kind: str):
    sql_type, values, wanted = KINDS[kind]
    rows = spark.createDataFrame([(n, value) for n, value in enumerate(values)], f"n int, `at.time` {sql_type}")
    found = rows.select("n", as_time(rows, "at.time").cast("string").alias("t")).orderBy("n").collect()
    assert [row["t"] for row in found] == wanted


@pytest.mark.parametrize(("unit", "parts"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_numbers_count_in_the_unit_that_the_settings_say(spark: SparkSession, unit: str, parts: int):
    frame = spark.createDataFrame(
        [(SECONDS * parts, float(SECONDS * parts), str(SECONDS * parts))], "a bigint, b double, c string"
    )
    row = frame.select(*[as_time(frame, name, unit).cast("string") for name in "abc"]).first()
    assert list(row) == [MOMENT] * 3


def test_an_event_lies_between_1970_and_the_end_of_the_year_after_the_run(spark: SparkSession):
    texts = ["1969-12-31 23:59:59", "1970-01-01", "2027-12-31 23:59:59", "2028-01-01", None]
    frame = spark.createDataFrame([(n, text) for n, text in enumerate(texts)], "n int, t string")
    latest = latest_event(datetime.date(2026, 11, 26))
    found = frame.select("n", plausible(as_time(frame, "t"), latest).alias("ok")).orderBy("n").collect()
    assert [row["ok"] for row in found] == [False, True, True, False, None]


def test_a_time_of_change_that_stands_for_unknown_is_none(spark: SparkSession):
    frame = spark.createDataFrame([(0,), (1000,), (SECONDS,), (253_402_214_400,)], f"{inner_name('t')} bigint")
    found = frame.select(known_time(frame, "t", "s").cast("string").alias("t")).collect()
    assert [row["t"] for row in found] == [None, "1970-01-01 00:16:40", MOMENT, None]
    assert frame.where(at_least(frame, "t", "s", SECONDS * 10**6)).count() == 2


@pytest.mark.parametrize(
    ("sql_type", "values", "message", "hint"),
    [
        ("bigint", [SECONDS * 1000], "1735689600000 as seconds since 1970 is in the year 56971", "time_unit: ms"),
        ("double", [SECONDS * 1e9], "in the year 55001", "time_unit: ns"),
        ("int", [20250131], "20250131 as seconds since 1970 is in the year 1970", "'yyyyMMdd'"),
        ("int", [20089], "in the year 1970", "date_add(date'1970-01-01', cast(`bought at` as int))"),
        ("int", [77], "in the year 1970", "timestamp_seconds(`bought at` + 1577836800)"),
        ("double", [45658.5], "in the year 1970", "timestamp_seconds((cast(`bought at` as double) - 25569) * 86400)"),
        (
            "bigint",
            [133_801_632_000_000_000],
            "is in the year",
            "cast(`bought at` as bigint) div 10 - 11644473600000000",
        ),
        (
            "bigint",
            [638_712_864_000_000_000],
            "is in the year",
            "cast(`bought at` as bigint) div 10 - 62135596800000000",
        ),
        ("string", ["01.02.2025"], "such as '01.02.2025'", "try_to_timestamp(`bought at`, "),
        ("date", [datetime.date(1811, 1, 1)], "such as '1811-01-01'", "derived"),
    ],
)
def test_a_column_in_another_unit_is_told_with_a_value_its_year_and_the_setting(
    spark: SparkSession, sql_type: str, values: list, message: str, hint: str
):
    rows = spark.createDataFrame([(value,) for value in values * 3], f"`bought at` {sql_type}")
    error = wrong_column(rows, "bought at", "s", "inputs.interactions.time", "3 of 3 values")
    assert error.message.startswith("inputs.interactions.time: 3 of 3 values in 'bought at' ")
    assert message in error.message
    assert hint in error.hint
    if "derived" in error.hint and sql_type in (
        "int",
        "bigint",
        "double",
    ):  # what is proposed can be computed, and fits
        expression = error.hint.split('"')[1]
        assert columns_of(rows, expression, "derived") == {"bought at"}
        moment = rows.select(F.expr(f"cast({expression} as timestamp)").cast("string")).first()[0]
        assert moment >= "2020-01-01" and (sql_type == "int" or moment.startswith("2025-01-01"))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-01-31T10:00Z", "2025-01-31 10:00:00"),
        ("2025-01-31T10:00+02:00", "2025-01-31 08:00:00"),
        ("2025-01-31 10:00", "2025-01-31 10:00:00"),
        ("2025-01-31T10:00 Europe/Berlin", "2025-01-31 09:00:00"),
        ("2025-01-31T10", "2025-01-31 10:00:00"),
        ("2025-01-31T10-05:00", "2025-01-31 15:00:00"),
        ("2025-01-31T10:00:00,5", "2025-01-31 10:00:00.5"),
        ("2025-01-31T10:00:00.123456789Z", "2025-01-31 10:00:00.123456"),
        ("20250131T100000Z", "2025-01-31 10:00:00"),
        ("20250131T1000+0200", "2025-01-31 08:00:00"),
        ("20250131T10", "2025-01-31 10:00:00"),
        ("2025-01-31t10:00:00z", "2025-01-31 10:00:00"),
        ("2025-01-31T24:00:00", "2025-02-01 00:00:00"),
        ("2025-01-31T24:00Z", "2025-02-01 00:00:00"),
        ("2025-01-31T24:00:01", None),
        ("2025-01-31T24:30:00", None),
        ("2025-01-31T25:00", None),
        ("2025-02-30T10:00Z", None),
        ("T10:00Z", None),
        ("10:00", None),
        ("2025-01-31T", None),
        ("2025-01-31Tnow", None),
    ],
)
def test_every_form_of_iso_8601_is_read(spark: SparkSession, text: str, moment: str | None):
    rows = spark.createDataFrame([(text,), (f" {text} ",)], "t string")
    found = rows.select(as_time(rows, "t").cast("string")).collect()
    assert [row[0] for row in found] == [moment] * 2


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_number_s_own_moment_is_never_before_the_filter_that_it_names(spark: SparkSession, unit: str):
    parts = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    values = [SECONDS * parts + more for more in (0, 1, 499, 500, 501, 600, 999)] + [-1, -999, -1000]
    rows = spark.createDataFrame([(value,) for value in values], f"{inner_name('t')} bigint")
    times = [F.unix_micros(as_time(rows, inner_name("t"), unit)).alias("at"), F.col(inner_name("t")).alias("t")]
    for row in rows.select(*times).collect():
        assert row["at"] == row["t"] * 10**6 // parts
        assert rows.where(at_least(rows, "t", unit, row["at"])).where(F.col(inner_name("t")) == row["t"]).count() == 1


def test_times_of_change_in_another_unit_are_told_by_the_setting(spark: SparkSession):
    rows = spark.createDataFrame([(SECONDS,), (SECONDS + 30,)], f"{inner_name('at')} bigint")
    with pytest.raises(InputContractError, match="2 of 2 times, all before 1980, in 'at'") as raised:
        item_gaps(rows, ItemColumns("id", None, None, [], "at", {}, "ns"))
    assert raised.value.hint == "set inputs.items.time_unit: s"
    assert item_gaps(rows, ItemColumns("id", None, None, [], "at", {}, "s")) == []


def test_kept_attributes_that_are_read_as_times_must_mostly_be_some(spark: SparkSession):
    good = spark.createDataFrame([("2025-01-01",), ("1811",), ("soon",), (None,)], "born string")
    check_times(good, "born", "s", "evaluate.item_age", "released")
    bad = spark.createDataFrame([(str(SECONDS * 1000),)] * 10 + [(None,)], "born string")
    with pytest.raises(InputContractError, match=r"evaluate\.item_age: 10 of 10 values in 'released'") as raised:
        check_times(bad, "born", "s", "evaluate.item_age", "released")
    assert raised.value.hint == "set inputs.items.time_unit: ms"
