"""The closed-form side of a training, on a shop where behaviour follows content."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from steps import strangers

from crossweave.alignment import HEADS
from crossweave.alignment.collaborative.content_map import ContentMapSettings
from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.spec import ModelSpec
from crossweave.errors import SettingsError
from crossweave.feeding.interactions import Interactions
from crossweave.feeding.items import ItemTensors
from crossweave.runtime.threads import torch_threads
from crossweave.training.blending import BlendPlan, fit_blend
from crossweave.training.item_tower import all_items
from crossweave.training.planning import _metric

ITEMS, USERS, NEW, TASTES = 100, 120, 20, 4


def shop() -> tuple[ItemTensors, Interactions]:
    """Users take items of their taste; `told` says an item's taste, `noise` nothing. The last items are new."""
    rng = np.random.default_rng(5)
    taste_N, taste_U = np.arange(ITEMS) % TASTES, np.arange(USERS) % TASTES
    taken = (taste_U[:, None] == taste_N) & (rng.random((USERS, ITEMS)) < 0.7)
    taken[:, -NEW:] = False
    held_out = []
    for row in taken:
        chosen = rng.choice(np.flatnonzero(row), 2, replace=False)
        row[chosen] = False
        held_out.append(chosen.astype(np.int32))
    told = np.eye(TASTES, dtype=np.float32)[taste_N] + 0.1 * rng.standard_normal((ITEMS, TASTES)).astype(np.float32)
    noise = rng.standard_normal((ITEMS, 16)).astype(np.float32)
    present = np.ones((ITEMS, 2), bool)
    popularity = taken.sum(axis=0).astype(np.float32)
    items = ItemTensors({"told": told, "noise": noise}, present, popularity, np.ones(ITEMS, bool))
    return items, Interactions(csr_matrix(taken.astype(np.float32)), held_out, np.zeros((USERS, 0), np.int32))


def plan(**changes: object) -> BlendPlan:
    metric = functools.partial(_metric, "ndcg", 5)
    return replace(BlendPlan({"edlae": {}}, ContentMapSettings(), True, metric, 5, 1), **changes)  # type: ignore[arg-type]


def untrained(tower: str = "mean", head: str = "dot") -> AlignmentModel:
    torch.manual_seed(0)
    modalities = {"told": TASTES, "noise": 16}
    spec = ModelSpec(modalities, ITEMS, 8, "attention", tower, {"bpr": 1.0}, 8, True, 0.1, 0.1, head=head)
    return AlignmentModel(spec).eval()


@pytest.mark.parametrize(
    ("tower", "head"), [*(("mean", head) for head in HEADS), ("target_attention", "dot"), ("target_attention", "fm")]
)
def test_a_blend_is_weighed_whatever_scores_the_neural_side(tower: str, head: str) -> None:
    items, interactions = shop()
    outcome = fit_blend(plan(search_map=False), untrained(tower, head), items, interactions)
    assert outcome.members[0].weight > 0
    assert outcome.metric is not None
    assert outcome.metric > 0.3


def test_validation_gives_a_good_model_weight_and_the_search_finds_the_telling_modality() -> None:
    items, interactions = shop()
    misled = ContentMapSettings(shares={"told": 0.01})
    outcome = fit_blend(plan(content_map=misled), untrained(), items, interactions)
    assert [member.name for member in outcome.members] == ["edlae"]
    assert outcome.members[0].weight > 0
    assert outcome.metric is not None
    assert outcome.metric > 0.3  # the untrained model alone is near chance: 5 of 80
    assert outcome.new_items == NEW
    assert outcome.found is not None
    shares = outcome.found.settings.shares
    assert shares["told"] / max(shares["noise"], 1e-9) > 5 * 0.01
    assert outcome.found.metric > 0.85  # nothing tells the items of one taste apart


def test_new_items_are_ranked_by_their_content() -> None:
    items, interactions = shop()
    model = fit_blend(plan(), untrained(), items, interactions).members[0].model
    fans_of_0 = Histories.from_lists([np.arange(0, 40, TASTES)])
    new = model.blocks(fans_of_0)(ITEMS - NEW, ITEMS).numpy()[0]
    tastes = np.arange(ITEMS - NEW, ITEMS) % TASTES
    assert new[tastes == 0].min() > new[tastes != 0].max()


def test_among_new_items_alone_the_neural_scores_spread_a_quarter_as_far() -> None:
    items, interactions = shop()
    model, chosen = untrained(), replace(items, candidate_N=items.popularity_N == 0)
    plain = fit_blend(plan(), model, items, interactions).members[0]
    scaled = fit_blend(plan(), model, chosen, interactions).members[0]
    histories = Histories.from_lists([np.arange(0, 40, TASTES)])
    one, other = (m.model.blocks(histories)(0, ITEMS) for m in (plain, scaled))
    torch.testing.assert_close(one[:, : ITEMS - NEW], other[:, : ITEMS - NEW])
    ratio = other[:, ITEMS - NEW :] / one[:, ITEMS - NEW :]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert abs(float(ratio[0, 0]) - 1.0) > 0.01
    vectors = all_items(model, chosen)
    some = Histories.from_matrix(interactions.seen_UN[:USERS])
    with torch.no_grad():
        users = model.users(vectors.history_SD, some, strangers(USERS))
        neural = model.scores(users, model.targets(vectors))[:, ITEMS - NEW :]
    mapped = scaled.weight * scaled.model.blocks(some)(ITEMS - NEW, ITEMS)
    spread = [float(side.std(dim=1, correction=0).mean()) for side in (neural, mapped)]
    assert spread[0] / spread[1] == pytest.approx(0.25, rel=0.05)


def test_an_item_that_nobody_took_though_it_was_there_tells_what_finds_no_takers() -> None:
    items, interactions = shop()
    warm, taste = items.popularity_N > 0, np.arange(ITEMS) % TASTES
    new = ~warm & (taste == 0)
    unwanted = new & (np.arange(ITEMS) % (2 * TASTES) == 0)
    fans = Histories.from_lists([np.arange(0, 40, TASTES)])
    worth = []
    for candidates in (warm | new, warm | (new & ~unwanted)):
        chosen = replace(items, candidate_N=candidates)
        placed = fit_blend(plan(search_map=False), untrained(), chosen, interactions).members[0]
        scores = placed.model.blocks(fans)(0, ITEMS)[0].numpy()
        assert (scores[unwanted] != 0).all() == candidates[unwanted].all()
        worth.append(scores[new & ~unwanted].mean())
    assert 0 < worth[1] < 0.9 * worth[0]


def test_a_model_that_does_not_help_is_left_out() -> None:
    items, interactions = shop()
    rng = np.random.default_rng(6)
    taken = csr_matrix((rng.random((USERS, ITEMS)) < 0.01).astype(np.float32))
    noise = replace(interactions, seen_UN=taken, held_out=[np.empty(0, np.int32)] * USERS)
    without_validation = fit_blend(plan(), untrained(), items, noise)
    assert without_validation.metric is None  # nothing to judge by: the default weight
    assert fit_blend(plan(collaborative={}), untrained(), items, interactions).members == []


def test_an_unknown_setting_of_a_model_is_named() -> None:
    items, interactions = shop()
    with pytest.raises(SettingsError, match=r"model\.collaborative\.edlae.*lambda_"):
        fit_blend(plan(collaborative={"edlae": {"lambda_": 3}}), untrained(), items, interactions)


def test_another_number_of_threads_moves_scores_by_no_more_than_the_documented_tolerance() -> None:
    items, interactions = shop()
    found = []
    for threads in (1, 2):
        with torch_threads(threads):
            outcome = fit_blend(plan(), untrained(), items, interactions)
            histories = Histories.from_matrix(interactions.seen_UN)
            found.append([member.weight * member.model.blocks(histories)(0, ITEMS) for member in outcome.members])
    assert found[0]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
