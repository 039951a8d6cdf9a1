"""The kernel against a naive oracle, on ties, masks and every small size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossweave.scoring.topk import PAD, top_k


def oracle(user, item, bias, k, allowed, masked):
    """Sort every user's allowed items by score, then item index; slow and plain."""
    scores = user @ item.T + bias
    lists = []
    for row in range(len(user)):
        hidden = set(np.asarray(masked[row]).tolist())
        ranked = sorted(
            (i for i in range(len(item)) if allowed[i] and i not in hidden), key=lambda i: (-scores[row, i], i)
        )
        lists.append((ranked + [PAD] * k)[:k])
    return np.array(lists).reshape(len(user), k)


def run(user, item, bias, k, allowed, masked, block=16384):
    return top_k(
        torch.tensor(user),
        torch.tensor(item),
        torch.tensor(bias),
        k,
        allowed_N=torch.tensor(allowed, dtype=torch.bool),
        masked=[np.array(m, np.int64) for m in masked],
        block_items=block,
    )


def ones(rows):
    return np.ones((rows, 1), np.float32)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equals_a_full_sort_for_any_size_mask_and_block_also_with_many_ties(data):
    users, items, k = (data.draw(st.integers(1, n)) for n in (5, 40, 50))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Small whole numbers: scores are exact in float32 and tie often.
    user = rng.integers(-2, 3, (users, 3)).astype(np.float32)
    item = rng.integers(-2, 3, (items, 3)).astype(np.float32)
    bias = rng.integers(-1, 2, items).astype(np.float32)
    allowed = rng.random(items) < 0.8
    masked = [np.flatnonzero(rng.random(items) < 0.3) for _ in range(users)]
    got = run(user, item, bias, k, allowed, masked, block=data.draw(st.integers(1, 45)))
    np.testing.assert_array_equal(got.items_UK, oracle(user, item, bias, k, allowed, masked))


def test_scores_are_those_of_the_items():
    got = run(
        np.eye(2, dtype=np.float32),
        np.array([[3, 0], [1, 2]], np.float32),
        np.zeros(2, np.float32),
        2,
        [1, 1],
        [[], []],
    )
    assert got.items_UK.tolist() == [[0, 1], [1, 0]]
    assert got.scores_UK.tolist() == [[3.0, 1.0], [2.0, 0.0]]


def test_a_user_who_has_seen_everything_gets_an_empty_list():
    got = run(
        np.ones((1, 1), np.float32), np.ones((3, 1), np.float32), np.zeros(3, np.float32), 2, [1, 1, 1], [[0, 1, 2]]
    )
    assert got.items_UK.tolist() == [[PAD, PAD]]
    assert np.isneginf(got.scores_UK).all()


def test_ties_go_to_the_smaller_item_index_across_blocks():
    got = run(
        np.ones((1, 1), np.float32), np.ones((9, 1), np.float32), np.zeros(9, np.float32), 4, [1] * 9, [[]], block=2
    )
    assert got.items_UK.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("where", ["user", "item", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused(where, value):
    parts = {"user": np.ones((1, 2)), "item": np.ones((3, 2)), "bias": np.zeros(3)}
    parts = {name: part.astype(np.float32) for name, part in parts.items()}
    parts[where].flat[0] = value
    with pytest.raises(ValueError, match=where):
        run(parts["user"], parts["item"], parts["bias"], 1, [1, 1, 1], [[]])
