"""Every re-rank step of the registry keeps its contract, and does what a naive oracle does."""

import numpy as np
import pytest
import torch

from crossweave.errors import SettingsError
from crossweave.scoring.reranks import RERANKS, build_reranks
from crossweave.scoring.reranks.base import ItemFacts, Pool, reranked
from crossweave.scoring.topk import PAD, TopK

ITEMS, USERS, SIZE = 50, 6, 12
NEUTRAL = {"mmr": {"relevance": 1.0}, "popularity": {"weight": 0.0}}
STRONG = {"mmr": {"relevance": 0.3}, "popularity": {"weight": 2.0}}


@pytest.fixture
def facts():
    torch.manual_seed(3)
    vectors = torch.randn(ITEMS, 5)
    popularity = np.random.default_rng(4).integers(0, 200, ITEMS).astype(np.float32)
    return ItemFacts(vectors, vectors.mean(dim=0), popularity)


@pytest.fixture
def pool():
    rng = np.random.default_rng(5)
    items = np.stack([rng.permutation(ITEMS)[:SIZE] for _ in range(USERS)])
    scores = -np.sort(-rng.integers(-6, 6, (USERS, SIZE)), axis=1).astype(np.float32)  # with ties
    items[4, 7:], scores[4, 7:] = PAD, -np.inf
    items[5], scores[5] = PAD, -np.inf
    return Pool(items, scores)


def step(name, settings):
    return build_reranks({name: settings[name]})[0]


def test_every_step_has_settings_here():
    assert set(NEUTRAL) == set(STRONG) == set(RERANKS)


@pytest.mark.parametrize("name", RERANKS)
def test_a_step_that_weighs_nothing_leaves_the_ranking_as_it_is(name, pool, facts):
    np.testing.assert_array_equal(step(name, NEUTRAL)(pool, facts).items_UP, pool.items_UP)


@pytest.mark.parametrize("name", RERANKS)
def test_a_step_changes_the_order_and_nothing_else(name, pool, facts):
    got = step(name, STRONG)(pool, facts).items_UP
    assert (got[:4] != pool.items_UP[:4]).any(axis=1).all()
    np.testing.assert_array_equal(np.sort(got, axis=1), np.sort(pool.items_UP, axis=1))
    assert (got[4, 7:] == PAD).all()
    assert (got[5] == PAD).all()


@pytest.mark.parametrize("name", RERANKS)
def test_a_user_is_re_ranked_alike_in_any_company(name, pool, facts):
    got = step(name, STRONG)(pool, facts).items_UP
    for user in range(USERS):
        alone = Pool(pool.items_UP[user : user + 1], pool.relevance_UP[user : user + 1])
        np.testing.assert_array_equal(step(name, STRONG)(alone, facts).items_UP[0], got[user])


def test_maximal_marginal_relevance_equals_the_definition_followed_by_hand(pool, facts):
    got = step("mmr", STRONG)(pool, facts).items_UP
    unit = torch.nn.functional.normalize(facts.item_NE - facts.center_E, dim=1).double().numpy()
    for user in range(5):
        items = [item for item in pool.items_UP[user].tolist() if item != PAD]
        score = dict(zip(items, pool.relevance_UP[user].tolist(), strict=False))
        low, high = min(score.values()), max(score.values())
        chosen = []
        while len(chosen) < len(items):
            rest = [item for item in items if item not in chosen]
            like = {i: max((float(unit[i] @ unit[j]) for j in chosen), default=0.0) for i in rest}
            chosen.append(max(rest, key=lambda i: 0.3 * (score[i] - low) / (high - low) - 0.7 * like[i]))
        assert got[user, : len(items)].tolist() == chosen


def test_popularity_is_taken_from_the_score_as_its_logarithm(pool, facts):
    got = step("popularity", STRONG)(pool, facts)
    for user in range(5):
        items = [item for item in pool.items_UP[user].tolist() if item != PAD]
        worth = {
            i: s - 2 * np.log(1 + facts.popularity_N[i]) for i, s in zip(items, pool.relevance_UP[user], strict=False)
        }
        assert got.items_UP[user, : len(items)].tolist() == sorted(items, key=lambda i: -worth[i])


def test_a_ranking_is_re_ranked_at_its_head_and_its_items_keep_their_scores(pool, facts):
    ranking = TopK(pool.items_UP, pool.relevance_UP)
    steps = build_reranks({"popularity": {"weight": 1.0}, "mmr": {"relevance": 0.5}})
    got = reranked(ranking, steps, facts, 8)
    np.testing.assert_array_equal(got.items_UK[:, 8:], pool.items_UP[:, 8:])
    head = Pool(pool.items_UP[:, :8], pool.relevance_UP[:, :8])
    for one in steps:
        head = one(head, facts)
    np.testing.assert_array_equal(got.items_UK[:, :8], head.items_UP)
    for user in range(5):
        before = dict(zip(pool.items_UP[user].tolist(), pool.relevance_UP[user].tolist(), strict=True))
        assert [before[item] for item in got.items_UK[user].tolist()] == got.scores_UK[user].tolist()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"mrr": {}}, "unknown re-rank step 'mrr'"),
        ({"mmr": {"lambda": 1}}, "unknown setting score.rerank.mmr.lambda"),
        ({"mmr": {"relevance": 1.5}}, "score.rerank.mmr.relevance: Input should be less than or equal to 1"),
        ({"popularity": {"weight": -1}}, "score.rerank.popularity.weight"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(steps, words):
    with pytest.raises(SettingsError, match=words):
        build_reranks(steps)


def test_a_step_that_is_null_is_left_out():
    assert build_reranks({"mmr": None}) == []
