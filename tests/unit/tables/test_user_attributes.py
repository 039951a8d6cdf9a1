"""User attributes become codes that can be computed by hand, and no value goes uncounted."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from crossweave.alignment import user_parts as alignment
from crossweave.tables.user_attributes import (
    FIRST_VALUE,
    MISSING,
    OTHER,
    attribute_codes,
    code_counts,
    learn_vocabulary,
)

USERS = [
    ("a", {"country": "de", "age": "30"}),
    ("b", {"country": "fr", "age": "20"}),
    ("c", {"country": "de"}),
    ("d", {"country": "at", "age": "20"}),
    ("e", {"country": "it", "unasked": "x"}),
    ("f", {}),
    ("g", None),
]


@pytest.fixture(scope="module")
def users(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(USERS, "user_id string, attributes map<string, string>")


def codes(users: DataFrame, vocabulary: dict[str, tuple[str, ...]]) -> dict[str, list[int]]:
    coded = users.select("user_id", attribute_codes(vocabulary).alias("codes"))
    return {row["user_id"]: row["codes"] for row in coded.collect()}


def test_the_most_frequent_values_get_a_code_and_equally_frequent_ones_by_their_order(users: DataFrame) -> None:
    assert learn_vocabulary(users, ["country", "age"], 3) == {"country": ("de", "at", "fr"), "age": ("20", "30")}
    assert learn_vocabulary(users, ["age", "country"], 1) == {"age": ("20",), "country": ("de",)}
    assert learn_vocabulary(users, [], 3) == {}


def test_codes_are_0_for_none_1_for_another_value_and_the_place_in_the_vocabulary_from_2(users: DataFrame) -> None:
    found = codes(users, {"country": ("de", "at", "fr"), "age": ("20",)})
    assert found == {"a": [2, 1], "b": [4, 2], "c": [2, 0], "d": [3, 2], "e": [1, 0], "f": [0, 0], "g": [0, 0]}
    assert (MISSING, OTHER, FIRST_VALUE) == (0, 1, 2)
    assert alignment.MISSING == MISSING  # the rooms may not import each other


def test_an_attribute_that_nobody_has_and_no_attribute_at_all_have_codes_too(users: DataFrame) -> None:
    assert set(map(tuple, codes(users, {"shoe": ()}).values())) == {(0,)}
    assert set(map(tuple, codes(users, {}).values())) == {()}
    assert codes(users, {"unasked": ()})["e"] == [1]


def test_what_has_no_code_of_its_own_is_counted_and_reconciles(users: DataFrame) -> None:
    vocabulary = {"country": ("de", "at"), "age": ("20",)}
    coded = users.select(attribute_codes(vocabulary).alias("codes"))
    assert code_counts(coded, vocabulary) == {"country": (2, 2), "age": (4, 1)}
    assert code_counts(coded, {}) == {}
    for place, name in enumerate(vocabulary):
        known = sum(row["codes"][place] >= FIRST_VALUE for row in coded.collect())
        assert known + sum(code_counts(coded, vocabulary)[name]) == len(USERS)
