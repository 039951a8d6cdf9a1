"""Places for cold items, on lists made by hand."""

import numpy as np
import pytest

from crossweave.scoring.caps import Cap
from crossweave.scoring.explore import Exploration, explore
from crossweave.scoring.topk import PAD, TopK

ITEMS, K = 30, 10
COLD = np.arange(ITEMS) % 3 == 0  # 0, 3, 6, …
SCORES = -np.arange(ITEMS, dtype=np.float32)  # item 0 is the best


def ranker(allowed):
    def rank(users, depth):
        order = [i for i in range(ITEMS) if allowed[i]][:depth]
        order += [PAD] * (depth - len(order))
        items = np.array([order] * len(users)).reshape(len(users), depth)
        return TopK(items, np.where(items == PAD, -np.inf, SCORES[items]).astype(np.float32))

    return rank


def warm_lists(users=1):
    return ranker(~COLD)(np.arange(users), K)


def run(lists, share, first_rank=1, caps=(), seed=5, cold=COLD):
    users = [f"u{n}" for n in range(len(lists.items_UK))]
    return explore(lists, users, COLD, ranker(cold), Exploration(share, first_rank, seed), caps)


def test_the_best_cold_items_take_the_share_and_the_last_warm_ones_leave():
    lists, explored = run(warm_lists(3), 0.3)
    for items, scores, new in zip(lists.items_UK, lists.scores_UK, explored, strict=True):
        assert items[new].tolist() == [0, 3, 6]
        assert items[~new].tolist() == warm_lists().items_UK[0, :7].tolist()
        np.testing.assert_array_equal(scores, SCORES[items])
    assert len({tuple(row) for row in explored.tolist()}) > 1  # other users, other ranks


def test_the_ranks_are_the_same_for_a_seed_and_a_user_and_none_is_above_the_first():
    first, again, other = (run(warm_lists(20), 0.3, first_rank=6, seed=seed)[1] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert not first[:, :5].any()
    assert first[:, 5:].any(axis=0).all()


def test_cold_items_that_stand_there_by_their_score_count_and_stay():
    by_score = ranker(np.ones(ITEMS, bool))(np.arange(1), K)  # 0 … 9 with 0, 3, 6, 9
    lists, explored = run(by_score, 0.4)
    np.testing.assert_array_equal(lists.items_UK, by_score.items_UK)
    assert not explored.any()
    lists, explored = run(by_score, 0.6)
    assert lists.items_UK[explored].tolist() == [12, 15]
    assert lists.items_UK[~explored].tolist() == [0, 1, 2, 3, 4, 5, 6, 9]  # 7 and 8 left, 9 is cold and stays


def test_no_share_changes_nothing_and_a_whole_share_leaves_no_warm_item():
    np.testing.assert_array_equal(run(warm_lists(), 0.0)[0].items_UK, warm_lists().items_UK)
    assert sorted(run(warm_lists(), 1.0)[0].items_UK[0].tolist()) == np.flatnonzero(COLD).tolist()


def test_fewer_cold_items_than_the_share_give_what_there_is():
    lists, explored = run(warm_lists(), 0.5, cold=COLD & (np.arange(ITEMS) < 6))
    assert lists.items_UK[explored].tolist() == [0, 3]
    assert lists.items_UK[~explored].tolist() == warm_lists().items_UK[0, :8].tolist()


def test_a_list_that_is_not_full_stays_as_it_is():
    short = TopK(np.array([[1, 2, PAD]]), np.array([[-1.0, -2.0, -np.inf]], np.float32))
    assert run(short, 0.5)[0].items_UK.tolist() == [[1, 2, PAD]]


def test_explored_items_keep_to_the_caps():
    brand = Cap.from_lists("brand", 4, [["x"] if i in (0, 1, 3, 6, 9) else [str(i)] for i in range(ITEMS)])
    lists, explored = run(warm_lists(), 0.5, caps=[brand])
    assert lists.items_UK[explored].tolist() == [0, 3, 6, 12, 15]  # with item 1 the brand x is full: not 9


@pytest.mark.parametrize(("share", "k", "places"), [(0.1, 50, 5), (0.1, 5, 1), (0.1, 4, 0), (0.25, 10, 3), (1.0, 7, 7)])
def test_the_share_is_rounded_to_the_nearest_whole_number(share, k, places):
    assert Exploration(share, 1, 0).wanted(k) == places
