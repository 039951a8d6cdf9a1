"""Groups by attribute: values, lists, numbers, and what has none."""

from __future__ import annotations

import numpy as np

from crossweave.evaluation.groups import age_bucket, group_by_value


def members(values: list[list[str]]) -> dict[str, list[int]]:
    groups = group_by_value("a", values)
    assert groups.member_RG.any(axis=1).all()  # nobody is dropped
    return {name: np.flatnonzero(groups.member_RG[:, g]).tolist() for g, name in enumerate(groups.names)}


def test_values_are_groups_the_largest_first_and_a_row_without_one_stands_last() -> None:
    assert members([["b"], [], ["a"], ["b"], ["c"]]) == {"b": [0, 3], "a": [2], "c": [4], "(none)": [1]}
    groups = group_by_value("colour", [["b"], [], ["b"]])
    assert (groups.column, groups.sizes.tolist()) == ("colour", [2, 1])


def test_a_row_with_several_values_is_in_each_of_their_groups() -> None:
    found = members([["comedy", "drama"], ["drama"], ["drama", "drama"]])
    assert found == {"drama": [0, 1, 2], "comedy": [0]}
    assert list(members([["a", "a", "a"], ["b"], ["b"]])) == ["b", "a"]  # a repeated value is one row's all the same


def test_values_beyond_the_twenty_largest_share_a_group() -> None:
    values = [[f"v{n:02}"] for n in range(23)] + [["v22"], ["v22", "v21"], [], ["v01", "v19"]]
    found = members(values)
    assert list(found)[:4] == ["v22", "v01", "v19", "v21"]
    assert len(found) == 22
    assert list(found)[-2:] == ["(others)", "(none)"]
    assert found["(others)"] == [17, 18, 20]
    assert found["(none)"] == [25]


def test_many_different_numbers_are_cut_into_quartiles_named_by_their_ends() -> None:
    values = [[str(float(n))] for n in range(100, 0, -1)] + [[]]
    found = members(values)
    assert {name: len(rows) for name, rows in found.items()} == {
        "1 to 25": 25,
        "26 to 50": 25,
        "51 to 75": 25,
        "76 to 100": 25,
        "(none)": 1,
    }
    assert found["76 to 100"] == list(range(25))


def test_a_number_that_fills_more_than_a_quarter_leaves_fewer_parts() -> None:
    found = members([["0"]] * 60 + [[str(n)] for n in range(1, 41)])
    assert {name: len(rows) for name, rows in found.items()} == {"0": 60, "1 to 15": 15, "16 to 40": 25}


def test_few_different_numbers_are_groups_that_rise() -> None:
    assert list(members([["10"], ["9"], ["10"], [], ["1.5"]])) == ["1.5", "9", "10", "(none)"]


def test_one_word_among_many_numbers_makes_them_all_names() -> None:
    found = members([[str(n)] for n in range(30)] + [["unknown"]])
    assert (len(found), len(found["(others)"])) == (21, 11)


def test_ages_fall_into_buckets_at_8_31_91_and_366_days() -> None:
    days = np.array([-3.0, 0.0, 7.9, 8.0, 30.9, 31.0, 90.0, 91.0, 365.5, 366.0, np.nan])
    assert age_bucket(days).tolist() == [
        *["up to 7 days"] * 3,
        *["8–30 days"] * 2,
        *["31–90 days"] * 2,
        *["91–365 days"] * 2,
        "over a year",
        "not known",
    ]
