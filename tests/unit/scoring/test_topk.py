"""The kernel against a naive oracle, on ties, masks and every small size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossweave.scoring.topk import PAD, Kernel, top_k


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


@st.composite
def cases(draw):
    """Small whole numbers: scores are exact in float32 (and vectors in bf16) and tie often."""
    users, items, k = draw(st.integers(1, 5)), draw(st.integers(1, 700)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    widest = draw(st.sampled_from([1, 3, 40]))  # of scores: nearly all tie, many tie, few tie
    user = rng.integers(-2, 3, (users, 3)).astype(np.float32)
    item = rng.integers(-widest, widest + 1, (items, 3)).astype(np.float32)
    if draw(st.booleans()):
        item = item[np.argsort(item @ user[0])]  # the worst order: every item is better than all before it
    bias = rng.integers(-1, 2, items).astype(np.float32)
    allowed = rng.random(items) < draw(st.sampled_from([0.0, 0.1, 0.8, 1.0]))
    masked = [np.flatnonzero(rng.random(items) < draw(st.sampled_from([0.0, 0.3, 1.0]))) for _ in range(users)]
    return user, item, bias, k, allowed, masked


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(1, 800), st.booleans())
def test_equals_a_full_sort_for_any_size_mask_order_and_block_also_with_many_ties(case, block, bf16):
    user, item, bias, k, allowed, masked = case
    dtype = torch.bfloat16 if bf16 else torch.float32
    got = top_k(
        torch.tensor(user, dtype=dtype),
        torch.tensor(item, dtype=dtype),
        torch.tensor(bias),
        k,
        allowed_N=torch.tensor(allowed),
        masked=masked,
        block_items=block,
    )
    want = oracle(user, item, bias, k, allowed, masked)
    np.testing.assert_array_equal(got.items_UK, want)
    scores = np.take_along_axis(user @ item.T + bias, np.maximum(want, 0), axis=1)
    np.testing.assert_array_equal(got.scores_UK, np.where(want == PAD, -np.inf, scores))


@settings(max_examples=50, deadline=None)
@given(cases(), st.integers(1, 800))
def test_added_scores_count_like_the_product(case, block):
    user, item, bias, k, allowed, masked = case
    other = np.random.default_rng(0).integers(-3, 4, (len(user), len(item))).astype(np.float32)
    kernel = Kernel(torch.tensor(item), torch.tensor(bias), allowed_N=torch.tensor(allowed), block_items=block)
    got = kernel.best(
        torch.tensor(user),
        k,
        masked=masked,
        addition=lambda scores, start, stop: scores.add_(torch.tensor(other[:, start:stop])),
    )
    everything = np.hstack([user @ item.T + other + bias])
    want = oracle(everything, np.eye(len(item), dtype=np.float32), np.zeros(len(item)), k, allowed, masked)
    np.testing.assert_array_equal(got.items_UK, want)


def test_random_scores_of_either_sign_and_any_size_come_in_their_order():
    rng = np.random.default_rng(1)
    item = (rng.standard_normal((3000, 1)) * 10.0 ** rng.integers(-30, 30, (3000, 1))).astype(np.float32)
    item[:2] = [[-0.0], [0.0]]
    got = run(np.ones((1, 1), np.float32), item, np.full(3000, -0.0, np.float32), 3000, [1] * 3000, [[]], block=512)
    np.testing.assert_array_equal(got.items_UK[0], np.argsort(-item[:, 0], kind="stable"))
    assert got.items_UK[0].tolist().index(0) + 1 == got.items_UK[0].tolist().index(1)  # 0 and -0 tie


def test_no_users_and_no_items_are_defined():
    nobody, nothing = np.ones((0, 2), np.float32), np.ones((0, 2), np.float32)
    assert run(nobody, np.ones((3, 2), np.float32), np.zeros(3, np.float32), 2, [1] * 3, []).items_UK.shape == (0, 2)
    got = run(np.ones((1, 2), np.float32), nothing, np.zeros(0, np.float32), 2, [], [[]])
    assert got.items_UK.tolist() == [[PAD, PAD]]


def test_a_catalog_whose_order_tells_of_its_scores_is_ranked_exactly_and_guessed_no_more():
    # Each user's best fill one block: whoever's comes early expects as many from all the others.
    rng = np.random.default_rng(2)
    users, block, k = 64, 32, 24
    score_UN = rng.integers(0, 10**6, (users, users * block)).astype(np.float32)
    for user in range(users):
        score_UN[user, user * block : (user + 1) * block] += 2 * 10**6
    everyone = torch.eye(users)
    kernel = Kernel(
        torch.tensor(score_UN.T.copy()),
        torch.zeros(users * block),
        allowed_N=torch.ones(users * block, dtype=torch.bool),
        block_items=block,
    )
    none = [np.zeros(0, np.int64)] * users
    want = np.argsort(-score_UN, axis=1, kind="stable")
    assert kernel.guessing
    np.testing.assert_array_equal(kernel.best(everyone, k, masked=none).items_UK, want[:, :k])
    np.testing.assert_array_equal(kernel.best(everyone, 2 * k, masked=none).items_UK, want[:, : 2 * k])
    assert not kernel.guessing
    np.testing.assert_array_equal(kernel.best(everyone, k, masked=none).items_UK, want[:, :k])


@pytest.mark.parametrize("k", [20, 50, 100])
def test_a_guess_fails_for_few_where_the_order_tells_nothing(k, monkeypatch):
    rng = np.random.default_rng(4)
    item, user = (torch.tensor(rng.standard_normal((n, 16)), dtype=torch.float32) for n in (20_000, 200))
    kernel = Kernel(item, torch.zeros(20_000), allowed_N=torch.ones(20_000, dtype=torch.bool), block_items=128)
    ranked, once = [], Kernel._pass

    def counted(self, users, *more):
        ranked.append(len(users))
        return once(self, users, *more)

    monkeypatch.setattr(Kernel, "_pass", counted)
    got = kernel.best(user, k, masked=[[]] * 200)
    assert sum(ranked[1:]) <= 2
    assert kernel.guessing
    np.testing.assert_allclose(got.scores_UK, (user @ item.T).topk(k, dim=1).values.numpy(), rtol=1e-5)


@pytest.mark.parametrize("seen", [0, 1990])
def test_guessing_also_gives_exact_lists_to_who_has_few_items_left_and_to_whom_all_are_alike(seen):
    rng = np.random.default_rng(3)
    item = rng.standard_normal((2000, 8)).astype(np.float32)
    user = np.vstack([rng.standard_normal((40, 8)), np.zeros((2, 8))]).astype(np.float32)
    masked = [rng.choice(2000, seen, replace=False) for _ in user]
    got = run(user, item, np.zeros(2000, np.float32), 20, [1] * 2000, masked, block=50)
    np.testing.assert_array_equal(got.items_UK, oracle(user, item, np.zeros(2000), 20, [1] * 2000, masked))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_added_score_that_is_not_finite_is_refused(value):
    kernel = Kernel(torch.ones(40, 2), torch.zeros(40), allowed_N=torch.ones(40, dtype=torch.bool))
    with pytest.raises(ValueError, match="NaN or infinite"):
        kernel.best(torch.ones(1, 2), 3, masked=[[]], addition=lambda scores, start, stop: scores[0, 17].fill_(value))


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
