"""Slices of users and of items."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from crossweave.errors import InputContractError
from crossweave.evaluation.metrics import Relevance, ranking_metrics
from crossweave.evaluation.slices import (
    HISTORY_BUCKETS,
    SliceMean,
    average_by_label,
    history_length_bucket,
    item_slice_metrics,
    restrict_relevance,
)


def test_history_buckets_change_exactly_at_1_5_20_and_100() -> None:
    got = history_length_bucket([0, 1, 4, 5, 19, 20, 99, 100, 10_000])
    assert got.tolist() == ["0", "1–4", "1–4", "5–19", "5–19", "20–99", "20–99", "100+", "100+"]
    assert history_length_bucket(np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("bad", [[-1], [1.5], [[1]]])
def test_history_lengths_that_are_no_counts_are_refused(bad: ArrayLike) -> None:
    with pytest.raises(InputContractError, match="history lengths"):
        history_length_bucket(bad)


def test_averages_by_label_carry_their_counts_and_the_asked_order() -> None:
    labels = history_length_bucket([3, 30, 2, 0])
    got = average_by_label({"recall@20": [0.2, 0.9, 0.4, 0.5]}, labels, order=HISTORY_BUCKETS)
    assert got == [
        SliceMean("0", "recall@20", 0.5, 1),
        SliceMean("1–4", "recall@20", (0.2 + 0.4) / 2, 2),
        SliceMean("20–99", "recall@20", 0.9, 1),
    ]


def test_labels_outside_the_order_follow_it_in_rising_order() -> None:
    got = average_by_label({"m": [1.0, 2.0, 3.0]}, ["b", "c", "a"], order=["c", "absent"])
    assert [row.slice for row in got] == ["c", "a", "b"]
    assert average_by_label({"m": []}, []) == []


def test_a_metric_of_other_users_than_the_labels_is_refused() -> None:
    with pytest.raises(InputContractError, match="recall"):
        average_by_label({"recall": [0.1, 0.2]}, ["a"])


def test_item_slices_restrict_relevance_but_not_the_lists() -> None:
    # items 0–2 warm, 3–4 cold. User 0: relevant 1, list 4, 1. User 1: relevant 0 and 3, list 0, 3.
    lists = [[4, 1], [0, 3]]
    relevance = Relevance.from_lists([[1], [0, 3]])
    labels = ["warm", "warm", "warm", "cold", "cold"]
    warm, cold = item_slice_metrics(lists, relevance, labels, [1, 2], ["recall"], order=["warm", "cold"])
    assert (warm.slice, warm.rows.tolist(), warm.users) == ("warm", [0, 1], 2)
    assert warm.values["recall@1"].tolist() == [0.0, 1.0]  # user 0 has the cold item 4 above its warm 1
    assert warm.values["recall@2"].tolist() == [1.0, 1.0]
    assert (cold.slice, cold.rows.tolist(), cold.users) == ("cold", [1], 1)  # user 0 has no cold relevant item
    assert cold.values["recall@1"].tolist() == [0.0]
    assert cold.values["recall@2"].tolist() == [1.0]
    assert cold.means() == [SliceMean("cold", "recall@1", 0.0, 1), SliceMean("cold", "recall@2", 1.0, 1)]


def test_a_slice_that_nobody_has_a_relevant_item_of_counts_no_users() -> None:
    (cold, warm) = item_slice_metrics([[0]], Relevance.from_lists([[0]]), ["warm", "cold"], [1], ["recall"])
    assert (cold.slice, cold.users, cold.means()) == ("cold", 0, [])
    assert (warm.slice, warm.users) == ("warm", 1)


def test_restricting_to_all_items_changes_nothing() -> None:
    relevance = Relevance.from_lists([[4, 0], [2]])
    same, rows = restrict_relevance(relevance, np.ones(5, dtype=bool))
    assert rows.tolist() == [0, 1]
    before, after = (ranking_metrics([[0, 4], [1, 2]], r, [2]) for r in (relevance, same))
    assert {k: v.tolist() for k, v in before.items()} == {k: v.tolist() for k, v in after.items()}


def test_masks_and_labels_that_do_not_cover_the_items_are_refused() -> None:
    relevance = Relevance.from_lists([[7]])
    with pytest.raises(InputContractError, match="covers 3 items, item 7"):
        restrict_relevance(relevance, np.ones(3, dtype=bool))
    with pytest.raises(InputContractError, match="must be bool"):
        restrict_relevance(relevance, [0, 1])
    with pytest.raises(InputContractError, match="lists of 1 users"):
        item_slice_metrics([[1], [2]], relevance, ["a"] * 8, [1])
