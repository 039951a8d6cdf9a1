"""Which Spark SQL a derived column or a rule may be: a value of its own row, the same every night, of a sane size."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from crossweave.errors import SettingsError
from crossweave.tables.expressions import LARGEST, check_condition, columns_of


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    schema = (
        "title string, price int, released date, made timestamp, tags array<string>, raw binary, of map<string, int>"
    )
    return spark.createDataFrame([], schema)


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("cast(nullif(regexp_extract(title, '\\\\((\\\\d{4})\\\\)$', 1), '') as int)", {"title"}),
        ("split(nullif(regexp_replace(title, '^Directors?: .*?Cast: |$', ''), ''), ', ')", {"title"}),
        ("try_cast(title as int) > 0 and price between 1 and 5 or title like 'a%'", {"title", "price"}),
        ("case when price > 3 then 'dear' when price is null then null else 'cheap' end", {"price"}),
        ("transform(tags, (t, i) -> concat(upper(t), i))", {"tags"}),
        ("aggregate(tags, '', (a, t) -> concat(a, t), a -> trim(a))", {"tags"}),
        ("aggregate(tags, 0, (a, t) -> a + length(t) * a)", {"tags"}),
        ("aggregate(tags, '', (a, t) -> if(a = '', t, concat(a, ',', t)))", {"tags"}),
        ("exists(tags, t -> t = 'now') or array_contains(tags, 'today')", {"tags"}),
        ("lpad(title, 20, '0') || repeat('x', 100) || space(3)", {"title"}),
        ("sequence(1, 100)[price]", {"price"}),
        ("size(sequence(date'2020-01-01', date'2021-01-01', interval 1 day))", set()),
        ("released + interval 1 day > date '2020-01-01' and made < timestamp '2026-01-01 10:00'", {"made", "released"}),
        ("cast('2020-01-01' as date) < released", {"released"}),
        ("datediff(released, to_date('2020', 'yyyy'))", {"released"}),
        ("months_between(made, timestamp'2020-01-01') > 3", {"made"}),
        ("from_json(title, 'a int, b string').b", {"title"}),
        ("of['a'] + element_at(of, 'b') + coalesce(price, 0) % 3", {"of", "price"}),
        ("sha2(raw, 256) || md5(raw) || hex(raw) || typeof(price)", {"raw", "price"}),
        ("nvl(title, 'now') = 'today' or title in ('now', 'tomorrow')", {"title"}),
        ("struct(title, price).price", {"title", "price"}),
        ("format_string('%05d %s', price, title)", {"price", "title"}),
        ("date_format(made, 'yyyy-MM-dd') || date_trunc('month', made) || year(released)", {"made", "released"}),
        ("zip_with(tags, tags, (x, y) -> x || y)", {"tags"}),
        ("true", set()),
    ],
)  # fmt: skip
def test_a_value_of_the_row_is_let_through_with_the_columns_that_it_reads(rows: DataFrame, expression, columns) -> None:
    assert columns_of(rows, expression, "x") == columns


CHANGING = [
    "now()", "current_timestamp", "current_timestamp()", "current_date", "current_date()", "curdate()",
    "localtimestamp()", "unix_timestamp()", "cast('now' as timestamp)", "cast(' Today ' as date)", "date('tomorrow')",
    "timestamp 'now'", "date 'today'", "date /**/ 'yesterday'", "timestamp'n\\u006fw'", "timestamp_ntz 'now'",
    "timestamp '10:00:00'", "timestamp 'T10:00'", "cast('10:00' as timestamp)", "to_timestamp('now')",
    "to_date('today')", "released < 'now'", "made between 'yesterday' and 'today'", "released in ('today')",
    "datediff('today', released)", "date_trunc('day', 'now')", "cast(concat('no', 'w') as timestamp)",
    "cast(if(price > 1, 'now', 'today') as timestamp)", "try_cast('now' as timestamp)",
    "cast(array('10:30') as array<timestamp>)[0]", "cast(struct('10:30') as struct<a: timestamp>).a",
    "cast(map('a', array('today')) as map<string, array<date>>)['a'][0]", "from_csv('10:30', 't timestamp').t",
    "from_json('{\"t\":\"T10:30\"}', 't timestamp').t", "from_json('[\"10:30\"]', 'array<timestamp>')[0]",
    "from_csv(concat('7,', '9:05'), 'a int, t timestamp_ntz').t", "from_json('{\"t\": \"now\"}', 't date').t",
    "transform(tags, t -> current_date)", "aggregate(tags, now(), (a, t) -> now())", "nvl(made, now())",
    "convert_timezone('Asia/Tokyo', made)", "current_timezone()", "current_user()", "current_user", "user()",
    "current_database()", "current_catalog()", "version()", "uuid()", "rand()", "randn(3)", "shuffle(tags)",
    "monotonically_increasing_id()", "spark_partition_id()", "input_file_name()", "input_file_block_start()",
    "base64(aes_encrypt(raw, 'abcdefghijklmnop'))", "'${env:HOME}'", "'${spark.app.id}'",
    "(select max(id) from range(3))", "exists(select 1)", "price in (select id from range(3))",
    "transform(tags, t -> (select 1))",
]  # fmt: skip


@pytest.mark.parametrize(
    "expression",
    ["from_json(title, 't timestamp').t", "from_csv(concat('2025-01-01T10:30:00,', title), 't timestamp, b string').t",
     "from_json(concat('{\"t\":\"', title, '\"}'), 't date').t", "from_json('{\"t\": \"10:30\"}', 't string').t",
     "cast(array('2025-01-01 10:30:00') as array<timestamp>)[0]"],
)  # fmt: skip
def test_times_that_name_their_day_may_be_read_of_texts(rows: DataFrame, expression: str) -> None:
    columns_of(rows, expression, "x")


@pytest.mark.parametrize("expression", CHANGING)
def test_what_is_another_value_on_another_night_is_refused(rows: DataFrame, expression: str) -> None:
    with pytest.raises(SettingsError, match=r"^x is another value each time"):
        columns_of(rows, expression, "x")


@pytest.mark.parametrize(
    "expression",
    ["java_method('java.lang.System', 'getenv', 'HOME')", "reflect('java.util.UUID', 'randomUUID')", "raise_error('x')",
     "assert_true(price > 3)", "identifier('now')()", "xpath_string(title, 'a/b')", "no_such(price)", "other.f(price)",
     "system.builtin.reflect('java.util.UUID', 'randomUUID')", "hll_sketch_estimate(raw)"],
)  # fmt: skip
def test_what_runs_code_or_ends_the_night_is_refused(rows: DataFrame, expression: str) -> None:
    with pytest.raises(SettingsError, match=r"^x (calls|is another value each time)"):
        columns_of(rows, expression, "x")


@pytest.mark.parametrize("name", ["guarded_udf", "lower"])
def test_functions_of_the_session_are_refused_even_under_a_name_of_sparks_own(
    spark: SparkSession, rows: DataFrame, name: str
) -> None:
    other = spark.newSession()  # a function of Spark's own cannot be put back where it was
    try:
        other.udf.register(name, lambda value: value)
        with pytest.raises(SettingsError, match=r"^x calls "):
            columns_of(other.createDataFrame([], rows.schema), f"{name}(title)", "x")
    finally:
        spark.createDataFrame([], "a int")  # makes this session the active one again


@pytest.mark.parametrize(
    "expression",
    ["exists(select 1 from csv.`{file}`)", "(select count(*) from text.`{file}`)",
     "price in (select * from json.`{file}`)", "transform(tags, t -> exists(select 1 from parquet.`{file}`))",
     "(with a as (select 1 from csv.`{file}`) select 1)", "exists(select 1 from identifier('csv.`{file}`'))"],
)  # fmt: skip
def test_a_subquery_over_a_file_is_refused_before_the_file_is_looked_for(
    rows: DataFrame, expression: str, tmp_path: Path
) -> None:
    """The file is not there: whoever looks for it says so."""
    with pytest.raises(SettingsError, match=r"^x is another value each time: it looks at other rows by a subquery"):
        columns_of(rows, expression.format(file=tmp_path / "nothing"), "x")


def test_what_spark_knows_of_the_file_of_a_row_is_no_column(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(3).write.parquet(str(tmp_path / "t"))
    rows = spark.read.parquet(str(tmp_path / "t"))
    assert columns_of(rows, "id + 1", "x") == {"id"}
    for expression in ("_metadata.file_path", "_metadata.row_index + id", "to_json(_metadata)"):
        with pytest.raises(SettingsError, match=r"^x reads _metadata, which is no column"):
            columns_of(rows, expression, "x")


@pytest.mark.parametrize(
    "expression",
    [
        "repeat('x', 1000000000)", "repeat(title, 1000000000)", "space(1000000000)", "lpad(title, 1000000000, 'x')",
        "rpad(title, 1000000000)", "lpad(raw, 1000000000)", "array_repeat(title, 1000000000)",
        "sequence(1, 1000000000)",         "size(sequence(1, 1000000000))",
        "length(repeat('x', 1000000000)) > 3", "sequence(1L, 10000000000L, 10)",
        "sequence(date'1970-01-01', date'2020-01-01', interval 1 minute)",
        "sequence(timestamp'1970-01-01', timestamp'2020-01-01', interval '1' second)",
        "sequence(date'0001-01-01', date'9999-01-01')", "repeat(repeat(repeat('x', 1000), 1000), 1000)",
        "repeat('x', 1000 * 1000 * 1000)", "repeat('x', cast('1000000000' as int))", "repeat('x', price + 1000000000)",
        "repeat('x', if(price > 1, 1000000000, 1))", "repeat('x', int(power(10, 9)))",
        "array_insert(tags, 1000000000, 'x')", "format_string('%1000000000d', price)", "printf('%-1000000000s', title)",
        "format_number(price, 1000000000)", "transform(sequence(1, 10000), i -> sequence(1, 10000))",
        "transform(sequence(1, 99999), i -> aggregate(sequence(1, 99999), 0, (a, x) -> a + x))",
        "aggregate(sequence(1, 60), 'x', (a, i) -> concat(a, a))", "aggregate(tags, 'x', (a, t) -> repeat(a, 10))",
        "aggregate(tags, array(1), (a, t) -> concat(a, a))", "reduce(tags, 'x', (a, t) -> a || a || t)",
        "replace(repeat('a', 10000), 'a', repeat('b', 10000))",
        "regexp_replace(repeat('a', 9999), 'a', repeat('b', 9999))",
        "array_join(sequence(1, 9999), repeat('x', 9999))", "flatten(array_repeat(array_repeat(1, 10000), 10000))",
        "transform(tags, t -> repeat(t, 1000000000))", "nvl(title, repeat('x', 1000000000))",
        "map_from_arrays(sequence(1, 200000), sequence(1, 200000))",
    ],
)  # fmt: skip
def test_constants_that_make_too_much_of_one_row_are_refused_unread(rows: DataFrame, expression: str) -> None:
    with pytest.raises(SettingsError, match=r"^x makes about .* of one row; at most"):
        columns_of(rows, expression, "x")


def test_the_largest_that_is_allowed_is_allowed(rows: DataFrame) -> None:
    assert columns_of(rows, f"repeat('x', {LARGEST})", "x") == set()
    with pytest.raises(SettingsError, match="makes about"):
        columns_of(rows, f"repeat('x', {LARGEST + 1})", "x")


@pytest.mark.parametrize("expression", ["(" * 5000 + "1" + ")" * 5000, "1" + " + 1" * 6000])
def test_an_expression_that_is_too_long_or_deep_for_the_parser_is_refused(rows: DataFrame, expression: str) -> None:
    with pytest.raises(SettingsError, match=r"^x "):
        columns_of(rows, expression, "x")


def test_a_condition_is_judged_the_same_way(rows: DataFrame) -> None:
    check_condition(rows, "price > 3", "x")
    with pytest.raises(SettingsError, match="x should be true or false, it is int"):
        check_condition(rows, "price", "x")
    with pytest.raises(SettingsError, match="x is another value each time"):
        check_condition(rows, "made < 'now'", "x")
