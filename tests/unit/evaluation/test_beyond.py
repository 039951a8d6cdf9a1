"""AUC of lists, diversity within them and their lift in popularity: by hand, and against loops over all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from crossweave.errors import InputContractError
from crossweave.evaluation.auc import limited_auc
from crossweave.evaluation.beyond import intra_list_diversity, popularity_lift
from crossweave.evaluation.metrics import Relevance


def test_auc_of_one_user_is_the_arithmetic_on_paper() -> None:
    # 6 candidates, 2 relevant (7, 9): listed 8, 7, 5. 7 beats 3 of the 4 others (all but 8); 9 is behind the list
    # with 2 others, of which it beats half.
    got = limited_auc([[8, 7, 5]], Relevance.from_lists([[7, 9]]), [6], 3)
    assert got.tolist() == [(3 + 1) / 8]


def test_auc_of_a_full_list_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        order = rng.permutation(12)
        relevant = rng.permutation(12)[: rng.integers(1, 11)]
        place = {item: rank for rank, item in enumerate(order)}
        pairs = [place[r] < place[o] for r in relevant for o in set(range(12)) - set(relevant)]
        got = limited_auc(order[None], Relevance.from_lists([relevant]), [12], 12)
        assert got[0] == pytest.approx(np.mean(pairs))


def test_auc_at_its_ends_and_in_between() -> None:
    relevance = Relevance.from_lists([[0, 1], [0, 1], [0, 1], [0, 1]])
    lists = [[0, 1, -1], [2, 3, 4], [-1, -1, -1], [5, 0, 1]]
    got = limited_auc(lists, relevance, [5, 5, 5, 6], 3)
    # best; all others listed first; nothing known; one of four others is before both
    assert got.tolist() == [1.0, 0.0, 0.5, 0.75]
    assert limited_auc([[0, 1]], Relevance.from_lists([[0, 1]]), [2], 2).tolist() == [1.0]  # nothing else to lose to
    with pytest.raises(InputContractError, match="fewer candidates"):
        limited_auc([[0, 1, 2]], Relevance.from_lists([[0]]), [2], 3)


def test_diversity_is_the_mean_distance_of_all_pairs() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((20, 4))
    lists = np.stack([rng.permutation(20)[:6] for _ in range(5)])
    lists[1, 3:], lists[2, 1:], lists[3] = -1, -1, -1
    got = intra_list_diversity(lists, vectors, 5)
    for row, value in zip(lists[:, :5], got, strict=True):
        unit = [vectors[item] / np.linalg.norm(vectors[item]) for item in row if item >= 0]
        pairs = [1 - float(a @ b) for a, b in itertools.combinations(unit, 2)]
        assert value == pytest.approx(np.mean(pairs), abs=1e-6) if pairs else np.isnan(value)
    assert intra_list_diversity([[0, 1]], [[1.0, 0.0], [2.0, 0.0]], 2)[0] == pytest.approx(0.0, abs=1e-7)
    assert intra_list_diversity([[0, 1]], [[0.0, 0.0], [2.0, 0.0]], 2)[0] == pytest.approx(1.0)
    with pytest.raises(InputContractError, match="vectors of 2 items"):
        intra_list_diversity([[0, 2]], np.eye(2), 2)


def test_popularity_lift_compares_a_list_with_the_user_s_own_history() -> None:
    histories = Relevance.from_lists([[0, 1], [2], [], [3]])
    popularity = [10.0, 30.0, 5.0, 0.0, 60.0]
    got = popularity_lift([[4, 0], [2, -1], [4, 1], [4, 1]], histories, popularity, 2)
    assert got[:2].tolist() == [35 / 20 - 1, 0.0]
    assert np.isnan(got[2:]).all()  # no history, and one that nobody else took
    assert popularity_lift([[4, 0], [2, -1], [4, 1], [4, 1]], histories, popularity, 1)[0] == 60 / 20 - 1
