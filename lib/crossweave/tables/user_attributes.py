"""User attributes as codes: 0 for none, 1 for a value outside the vocabulary, then the vocabulary's values in order.

A *vocabulary* is attribute -> values, the most frequent first; the order of its attributes is that of the codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

MISSING, OTHER, FIRST_VALUE = 0, 1, 2


def learn_vocabulary(users: DataFrame, attributes: Sequence[str], limit: int) -> dict[str, tuple[str, ...]]:
    """Return each attribute's `limit` most frequent values, equally frequent ones in their own order.

    `users` has one row a user and a column `attributes`, map<string, string>.
    """
    vocabulary = {}
    for name in attributes:
        values = users.select(F.try_element_at("attributes", F.lit(name)).alias("value")).where("value is not null")
        most = values.groupBy("value").count().orderBy(F.desc("count"), "value").limit(limit)
        vocabulary[name] = tuple(row["value"] for row in most.collect())
    return vocabulary


def attribute_codes(vocabulary: Mapping[str, Sequence[str]]) -> Column:
    """Return array<int>: the codes of the column `attributes`, which may be null."""

    def code(name: str) -> Column:
        known = F.array(*[F.lit(value) for value in vocabulary[name]]).cast("array<string>")
        value = F.try_element_at("attributes", F.lit(name))
        place = F.call_function("array_position", known, value)  # from 1; 0: not there
        return F.coalesce(place + F.lit(FIRST_VALUE - 1), F.lit(MISSING)).cast("int")

    return F.array(*[code(name) for name in vocabulary]).cast("array<int>")


def code_counts(coded: DataFrame, vocabulary: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Return of each attribute how many rows have no value, and how many one outside the vocabulary.

    `coded` has one row a user and their codes in the column `codes`.
    """
    places = list(enumerate(vocabulary))
    sums = [
        F.count_if(F.col("codes")[place] == code).alias(f"{place}-{code}")
        for place, _ in places
        for code in (MISSING, OTHER)
    ]
    found = coded.agg(*sums).first() if sums else None
    return {name: (found[f"{place}-{MISSING}"], found[f"{place}-{OTHER}"]) for place, name in places} if found else {}
