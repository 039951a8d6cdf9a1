"""Ids that find nothing on the other side: how they look, and the expression that mends them."""

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from crossweave.tables.matching import Side, compare

NUMBERS = [str(n) for n in range(1, 31)]


def side(spark: SparkSession, ids: list[str], table: str, column: str, setting: str = "item", **more) -> Side:
    rows = spark.createDataFrame([(value,) for value in ids], "id string")
    return Side(
        rows, table, setting, column, more.get("integer", False), more.get("derived", {}), more.get("private", False)
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "expression"),
    [
        ([f"{n}.0" for n in NUMBERS], NUMBERS, "try_cast(try_cast(sku as double) as bigint)"),
        (NUMBERS, [n.zfill(5) for n in NUMBERS], "lpad(sku, 5, '0')"),
        ([f"SKU-{n}" for n in NUMBERS], NUMBERS, "regexp_extract(sku, '([0-9]+)$', 1)"),
        ([f"SKU-{n}" for n in NUMBERS], [f"SKU{n}" for n in NUMBERS], "regexp_replace(sku, '[^0-9A-Za-z]', '')"),
    ],
)
def test_the_expression_that_is_named_makes_the_ids_match(
    spark: SparkSession, theirs: list[str], ours: list[str], expression: str
):
    words, mend = compare(side(spark, theirs, "interactions", "sku"), side(spark, ours, "items", "id", "id"))
    assert (
        mend == f'set inputs.interactions.derived: {{item_key: "{expression}"}} and inputs.interactions.item: item_key'
    )
    assert words.startswith("inputs.interactions.item ('sku') holds ")
    made = spark.createDataFrame([(value,) for value in theirs], "sku string").select(F.expr(expression).cast("string"))
    assert {row[0] for row in made.collect()} == set(ours)


def test_where_only_the_other_side_can_be_rewritten_its_settings_are_named(spark: SparkSession):
    mine = side(spark, NUMBERS, "interactions", "sku", integer=True)
    other = side(spark, [f"SKU-{n}" for n in NUMBERS], "items", "no.", "id", derived={"no.": "upper(code)"})
    words, mend = compare(mine, other)
    assert "holds '" in words and "(an integer)" in words and "'SKU-" in words and "(a string)" in words
    expression = "regexp_extract((upper(code)), '([0-9]+)$', 1)"
    assert mend == f'set inputs.items.derived: {{id_key: "{expression}"}} and inputs.items.id: id_key'


def test_ids_with_nothing_in_common_are_shown_and_no_rewriting_is_made_up(spark: SparkSession):
    mine = side(spark, ["apple", "pear"], "interactions", "fruit")
    words, mend = compare(mine, side(spark, NUMBERS, "items", "id", "id"))
    assert mend == ""
    assert "'apple'" in words or "'pear'" in words


def test_ids_of_users_are_shown_by_their_shape_alone(spark: SparkSession):
    mine = side(spark, ["Ann-17"], "interactions", "customer", "user", private=True)
    words, mend = compare(mine, side(spark, ["ann-17"], "users", "id", "id", private=True))
    assert "ids like 'Aaa-99'" in words and "ids like 'aaa-99'" in words
    assert "Ann" not in words + mend
    assert 'user_key: "lower(customer)"' in mend
