"""What each rule says of each item, on a catalog made by hand."""

import datetime

import pytest
from pyspark.sql import SparkSession

from crossweave.errors import SettingsError
from crossweave.tables.item_rules import CatalogRules, check_rules, ruled_items
from crossweave.tables.schema import spark_schema
from crossweave.tables.scored_users import UserTables, user_rows, user_states

DATE = datetime.date(2026, 1, 31)
ITEMS = {
    "a": {"tags": '["red","big"]', "stock": "3", "made": "2026-01-30"},
    "b": {"tags": "[]", "stock": "0", "made": "2026-01-21 00:00:00"},
    "c": {"tags": "[REC]", "made": "1769817600"},  # a plain string; midnight of the night in seconds
    "d": {"tags": '["blue","blue"]', "stock": "many", "made": "2025"},
    "e": {"stock": "10", "made": "soon"},
}
GONE = {"e"}


@pytest.fixture
def ruled(spark: SparkSession):
    rows = [
        (i, f"title {i}", i == "d", known, {}, "removed" if i in GONE else "active", DATE, DATE)
        for i, known in ITEMS.items()
    ]
    catalog = spark.createDataFrame(rows, spark_schema("catalog"))
    index = spark.createDataFrame([(i, n) for n, i in enumerate(ITEMS)], "item_id string, item_index int")

    def run(rules: CatalogRules, column: str):
        found = ruled_items(catalog, index, rules, ["tags", "stock", "made"], DATE).orderBy("item_index").collect()
        return [row[column] for row in found]

    return run


def hidden(ruled, rules: CatalogRules) -> dict[str, str]:
    bits = ruled(rules, "hidden")
    return {
        name: "".join(item for item, bit in zip(ITEMS, bits, strict=True) if bit >> place & 1)
        for place, name in enumerate(rules.names)
    }


def test_without_rules_only_what_left_the_catalog_is_hidden(ruled):
    assert hidden(ruled, CatalogRules()) == {"removed": "e"}


def test_a_condition_that_is_null_does_not_hold_and_lists_count_with_each_of_their_values(ruled):
    rules = CatalogRules(
        available="try_cast(stock as int) > 0",
        allow={"tags": ["red", "blue", "[REC]"]},
        block={"tags": ["big"], "cold": ["true"]},
    )
    assert hidden(ruled, rules) == {
        "removed": "e", "available": "bcd", "allow.tags": "be", "block.tags": "a", "block.cold": "d",
    }  # fmt: skip


def test_conditions_see_the_catalogs_own_columns_and_the_date_of_the_run(ruled):
    rules = CatalogRules(available="last_seen = run_date and title != 'title b' and not cold and item_id < 'd'")
    assert hidden(ruled, rules)["available"] == "bde"


def test_segments_and_categories_are_given_in_their_order(ruled):
    rules = CatalogRules(segments={"x": "stock = '3'", "y": "item_id > 'b'"}, at_most=("tags", "stock"))
    assert ruled(rules, "open")[0] == [True, False]
    assert ruled(rules, "open")[2] == [False, True]  # a null is no yes
    categories = ruled(rules, "categories")
    assert [sorted(own[0]) for own in categories] == [["big", "red"], [], ["[REC]"], ["blue"], []]
    assert categories[2][1] == []


def test_an_age_is_read_from_dates_times_seconds_and_years_and_unknown_where_it_is_none_of_them(ruled):
    assert ruled(CatalogRules(time="made"), "age") == [1.0, 10.0, 0.0, 395.0, None]
    assert ruled(CatalogRules(), "age") == [None] * 5


def test_a_user_row_has_segments_and_blocks_and_its_state_changes_with_each_of_them(spark: SparkSession):
    index = spark.createDataFrame([("a", 0), ("b", 1)], "item_id string, item_index int")
    events = spark.createDataFrame(
        [("u", "b", None, "train")], "user_id string, item_id string, event_time timestamp, split string"
    )
    everybody = spark.createDataFrame([("u",), ("v",)], "user_id string")
    described = spark.createDataFrame([("u", {"country": "SE"})], spark_schema("users"))
    blocks = spark.createDataFrame([("u", "a"), ("u", "a"), ("u", "gone"), ("v", "b")], spark_schema("blocks"))
    nobody = spark.createDataFrame([], spark_schema("user_index"))

    def rows(blocks=blocks, condition="country = 'SE'"):
        tables = UserTables(events, everybody, described, blocks)
        segments = {"kids": "country = 'XX'", "locals": condition}
        return user_rows(
            tables, index, nobody, history=["train"], seen=["train"], vocabulary={"country": ["SE"]},
            segments=segments, attributes=["country"], unknown=-1,
        )  # fmt: skip

    found = {row["user_id"]: row.asDict() for row in rows().collect()}
    assert {user: row["segments"] for user, row in found.items()} == {"u": 2, "v": 0}
    assert {user: row["blocked"] for user, row in found.items()} == {"u": [0], "v": [1]}
    assert (found["u"]["history"], found["u"]["attributes"], found["v"]["attributes"]) == ([1], [2], [0])
    states = lambda frame: {row["user_id"]: row["state"] for row in user_states(frame).collect()}  # noqa: E731
    first = states(rows())
    assert states(rows()) == first
    assert states(rows(condition="country is null")).keys() == first.keys()
    assert all(state != first[user] for user, state in states(rows(condition="country is null")).items())
    fewer = states(rows(blocks=blocks.where("user_id = 'u'")))
    assert (fewer["u"] == first["u"], fewer["v"] == first["v"]) == (True, False)


def test_attributes_may_be_called_like_columns_of_ours_and_have_any_name(spark: SparkSession):
    names = {
        "item_index": "7",
        "_status": "gone",
        "_0": "x",
        "Title": "theirs",
        "a.b": "2026-01-01",
        "c`d": "2",
        "ITEM_ID": "no",
    }
    row = ("a", "ours", False, names, {}, "active", DATE, DATE)
    catalog = spark.createDataFrame([row], spark_schema("catalog"))
    index = spark.createDataFrame([("a", 3)], "item_id string, item_index int")
    rules = CatalogRules(
        available="item_index = 7 and _status = 'gone' and title = 'theirs' and `a.b` = '2026-01-01' and item_id = 'a'",
        allow={"a.b": ["2026-01-01"]}, block={"c`d": ["2"]}, at_most=("c`d", "_0"), time="a.b",
    )  # fmt: skip
    check_rules(catalog, rules, list(names), DATE)
    (found,) = ruled_items(catalog, index, rules, list(names), DATE).collect()
    assert (found["item_index"], found["categories"]) == (3, [["2"], ["x"]])
    assert found["hidden"] == 1 << rules.names.index("block.c`d")


def test_a_rule_on_attributes_that_differ_only_in_case_is_refused_by_name(spark: SparkSession):
    catalog = spark.createDataFrame([], spark_schema("catalog"))
    with pytest.raises(SettingsError, match=r"score\.rules\.allow\.name: name and Name differ only in case"):
        check_rules(catalog, CatalogRules(allow={"name": ["x"]}), ["name", "Name"], DATE)
