"""One modality of an item finding the other."""

from __future__ import annotations

import numpy as np
import pytest

from crossweave.evaluation.retrieval import cross_recalls, find_others


def directions(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_recall_in_both_directions_by_hand() -> None:
    left, right = directions(0, 40, 80), directions(10, 5, 90)
    # left 0 (0°): 10, 5, 90 → its own (10°) is second; left 1 (40°): 10° first, own (5°) second; left 2: own first
    # right 0 (10°): 0° first; right 1 (5°): 0° first, own (40°) second; right 2 (90°): own first
    assert cross_recalls(left, 3.0 * right, [1, 2]) == {1: (pytest.approx(1 / 3), pytest.approx(2 / 3)), 2: (1.0, 1.0)}


def test_an_equal_counts_as_lost() -> None:
    left, right = directions(0, 90), directions(0, 0)
    assert cross_recalls(left, right, [1, 2]) == {1: (0.0, 0.5), 2: (1.0, 1.0)}


def test_what_a_query_finds_comes_best_first_with_the_rank_of_its_own() -> None:
    left, right = directions(0, 40, 80), directions(10, 5, 90)
    one, other = find_others(left, right, [1, 2], 2)
    assert (one.query, one.items_K.tolist(), one.own_rank) == (1, [0, 1], 2)
    assert one.cosines_K == pytest.approx(np.cos(np.radians([30, 35])))
    assert one.own_cosine == pytest.approx(np.cos(np.radians(35)))
    assert (other.items_K.tolist(), other.own_rank) == ([2, 0], 1)


def test_ranks_agree_with_recalls() -> None:
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, 50, 8))
    ranks = [found.own_rank for found in find_others(left, right, range(50), 5)]
    for k, (there, _) in cross_recalls(left, right).items():
        assert np.mean([rank <= k for rank in ranks]) == pytest.approx(there)
