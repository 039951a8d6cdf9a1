"""Groups of users and of items: means, gaps and exposure against hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crossweave.evaluation.fairness import GAPS, Gap, exposure_by_group, judge_groups, means_by_group, widest_gap
from crossweave.evaluation.groups import AGES, Groups, group_by_value
from crossweave.evaluation.judge import Judged
from crossweave.evaluation.metrics import PAD, Relevance

LOG3 = 1 / math.log2(3)  # what rank 2 counts; rank 1 counts 1

LISTS = np.array([[0, 1], [0, 2], [3, PAD]])
RELEVANCE = Relevance.from_lists([[0], [1], [3, 2]])
COLOURS = group_by_value("colour", [["red"], ["blue"], ["red", "blue"], []])
"""Items 0 to 3; item 2 has both colours, item 3 none."""


def judged(lists: np.ndarray = LISTS) -> Judged:
    users = len(lists)
    return Judged(
        recommended_UK=lists,
        baselines={"popularity": lists},
        relevance=RELEVANCE,
        histories=Relevance.from_lists([[] for _ in range(users)]),
        candidates_U=np.full(users, 4),
        vectors_ND=np.eye(4, dtype=np.float32),
        popularity_N=np.ones(4),
        candidates_N=np.ones(4, bool),
        missing_N=np.zeros(4, np.int64),
    )


def test_each_group_s_mean_carries_its_users_and_users_of_two_groups_count_in_both() -> None:
    groups = Groups("g", ("a", "b"), np.array([[1, 0], [1, 1], [0, 1]], bool))
    means = means_by_group({"ndcg@2": np.array([1.0, 0.5, 0.0])}, groups)
    assert [(m.slice, m.metric, m.value, m.users) for m in means] == [
        ("a", "ndcg@2", 0.75, 2),
        ("b", "ndcg@2", 0.25, 2),
    ]


def test_a_gap_is_between_the_best_and_the_worst_group_that_is_large_enough() -> None:
    groups = {"a": (0.4, 30, 30), "b": (0.1, 20, 20), "c": (0.3, 50, 50), "tiny": (0.9, 19, 19), "none": (0.0, 1, 1)}
    gap = widest_gap("users by x", "ndcg@2", groups, least=20)
    assert gap == Gap("users by x", "ndcg@2", "a", "b", pytest.approx(0.3), pytest.approx(0.25), 50, 2)


def test_there_is_no_gap_without_two_groups_and_none_between_groups_that_fare_alike() -> None:
    assert widest_gap("users by x", "m", {"a": (0.4, 30, 30), "b": (0.1, 1, 1)}, least=20) is None
    alike = widest_gap("users by x", "m", {"a": (0.0, 30, 30), "b": (0.0, 30, 30)}, least=20)
    assert alike is not None
    assert (alike.difference, alike.ratio) == (0.0, 1.0)


def test_exposure_weighs_places_and_stands_beside_the_shares_of_catalog_and_relevance() -> None:
    shown = {e.group: e for e in exposure_by_group(LISTS, COLOURS, RELEVANCE, np.ones(4, bool), 2)}
    total = 3 + 2 * LOG3  # three first places, two second ones
    # Item 0 stands first twice, item 1 and 2 second once, item 3 first once.
    assert shown["red"].exposure == pytest.approx((2 + LOG3) / total)
    assert shown["blue"].exposure == pytest.approx(2 * LOG3 / total)
    assert shown["(none)"].exposure == pytest.approx(1 / total)
    assert {name: (e.items, e.catalog) for name, e in shown.items()} == {
        "red": (2, 0.5),
        "blue": (2, 0.5),
        "(none)": (1, 0.25),
    }
    # Relevant pairs: item 0 of user 0, item 1 of user 1, items 2 and 3 of user 2.
    assert {name: (e.users, e.relevance) for name, e in shown.items()} == {
        "red": (2, 0.5),
        "blue": (2, 0.5),
        "(none)": (1, 0.25),
    }


def test_exposure_looks_no_deeper_than_k_and_only_candidates_are_the_catalog() -> None:
    first = {e.group: e for e in exposure_by_group(LISTS, COLOURS, RELEVANCE, np.array([1, 0, 0, 1], bool), 1)}
    assert [first[name].exposure for name in ("red", "blue", "(none)")] == pytest.approx([2 / 3, 0, 1 / 3])
    assert [first[name].catalog for name in ("red", "blue", "(none)")] == [0.5, 0.0, 0.5]


def test_empty_lists_expose_nothing() -> None:
    shown = exposure_by_group(np.full((3, 2), PAD), COLOURS, RELEVANCE, np.ones(4, bool), 2)
    assert [e.exposure for e in shown] == [0.0, 0.0, 0.0]


def test_rows_and_gaps_of_a_judged_run() -> None:
    users = group_by_value("country", [["DE"], ["DE"], []])
    ages = np.array([AGES[0], AGES[1], AGES[1], AGES[-1]])
    found = judge_groups(judged(), [1, 2], 2, user_groups=[users], item_groups=[COLOURS], age_N=ages, least=1)
    value = {(r.family, r.slice, r.metric): (r.value, r.n) for r in found.rows}
    # User 0 hits at rank 1, user 1 misses, user 2 has one of its two items, at rank 1.
    assert value["users by country", "DE", "ndcg@2"] == (0.5, 2)
    assert value["users by country", "(none)", "ndcg@2"] == (pytest.approx(1 / (1 + LOG3)), 1)
    # Blue items are relevant for user 1 (item 1, not listed) and user 2 (item 2, not listed).
    assert value["items by colour", "blue", "recall@2"] == (0.0, 2)
    assert value["items by colour", "red", "recall@2"] == (0.5, 2)
    assert value["items by age", "up to 7 days", "recall@1"] == (1.0, 1)
    share = 2 * LOG3 / (3 + 2 * LOG3)
    assert value["exposure by colour", "blue", "exposure@2"] == (pytest.approx(share), 2)
    assert value["exposure by colour", "blue", "exposure_less_catalog@2"] == (pytest.approx(share - 0.5), 2)
    assert value["exposure by colour", "blue", "exposure_per_relevance@2"] == (pytest.approx(share / 0.5), 2)
    best = 1 / (1 + LOG3)
    assert found.metrics["gap.users.country.ndcg@2.difference"] == pytest.approx(best - 0.5)
    assert found.metrics["gap.users.country.ndcg@2.ratio"] == pytest.approx(0.5 / best)
    per_catalog = {"red": (2 + LOG3) / (3 + 2 * LOG3) / 0.5, "blue": share / 0.5, "(none)": 1 / (3 + 2 * LOG3) / 0.25}
    low, high = min(per_catalog.values()), max(per_catalog.values())
    assert found.metrics["gap.items.colour.exposure_per_catalog@2.difference"] == pytest.approx(high - low)
    assert found.metrics["gap.items.colour.exposure_per_catalog@2.ratio"] == pytest.approx(low / high)
    what = "users by country, ndcg@2: DE behind (none)"
    assert value[GAPS, what, "difference"] == (pytest.approx(best - 0.5), 3)


def test_small_groups_are_shown_but_in_no_gap_and_unknown_ages_are_no_family() -> None:
    users = group_by_value("country", [["DE"], ["DE"], []])
    found = judge_groups(judged(), [2], 2, user_groups=[users], age_N=np.full(4, AGES[-1]), least=2)
    assert {row.slice for row in found.rows} == {"DE", "(none)"}
    assert (found.gaps, found.metrics) == ({}, {})
