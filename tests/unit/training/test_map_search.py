"""The search for a content map: what it judges by is what a map made without the hidden items would give."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from crossweave.alignment.collaborative.content_map import ContentMapSettings, ridge_map
from crossweave.alignment.collaborative.edlae import Edlae
from crossweave.alignment.histories import Histories
from crossweave.feeding.items import ItemTensors
from crossweave.training.map_search import GROUPS, _Judge, search_map
from crossweave.training.planning import _metric

ITEMS, USERS = 60, 40
METRIC = functools.partial(_metric, "ndcg", 5)


def shop() -> tuple[ItemTensors, csr_matrix]:
    rng = np.random.default_rng(3)
    content = rng.standard_normal((ITEMS, 5)).astype(np.float32)
    taken = rng.standard_normal((USERS, 5)) @ content.T > 1.0
    taken[:, -5:] = False  # new items
    taken[0] = False
    present = np.ones((ITEMS, 1), bool)  # items without content would tie
    popularity = taken.sum(axis=0).astype(np.float32)
    items = ItemTensors({"content": content}, present, popularity, np.ones(ITEMS, bool))
    return items, csr_matrix(taken.astype(np.float32))


def test_a_setting_is_worth_what_a_map_without_the_hidden_items_ranks() -> None:
    items, seen_UN = shop()
    judged, settings = np.flatnonzero(items.judged), ContentMapSettings(sharpness=2.0, ridge=0.3)
    model = Edlae.fit(seen_UN)
    judge = _Judge(items, seen_UN, judged, model, METRIC, 5, np.random.default_rng(1))
    kernel_JJ = settings.sharpened(judge.cosines["content"].clone())
    values = []
    for group in judge.groups:
        map_RG = ridge_map(kernel_JJ[group.rest][:, group.rest].clone(), kernel_JJ[group.rest][:, group.hidden], 0.3)
        dense_UN = seen_UN.toarray()
        hidden, rest = judged[group.hidden], judged[group.rest]
        truth_UG, dense_UN[:, hidden] = dense_UN[:, hidden].copy(), 0.0
        users = np.flatnonzero(truth_UG.any(axis=1) & dense_UN.any(axis=1))
        scores_UN = model.blocks(Histories.from_matrix(csr_matrix(dense_UN[users])))(0, ITEMS).numpy()
        best = np.argsort(-(scores_UN[:, rest] @ map_RG), axis=1)[:, :5]
        values.append(METRIC(best, [np.flatnonzero(row) for row in truth_UG[users]]).mean())
    assert judge(settings) == pytest.approx(float(np.mean(values)), abs=1e-6)
    assert 0.2 < judge(settings) < 1.0


def test_every_judged_item_is_hidden_once() -> None:
    items, seen_UN = shop()
    judged = np.flatnonzero(items.judged)
    judge = _Judge(items, seen_UN, judged, Edlae.fit(seen_UN), METRIC, 5, np.random.default_rng(1))
    assert len(judge.groups) == GROUPS
    assert sorted(torch.cat([group.hidden for group in judge.groups]).tolist()) == list(range(len(judged)))
    for group in judge.groups:
        assert not set(group.hidden.tolist()) & set(group.rest.tolist())


def test_too_few_items_are_not_searched() -> None:
    items, seen_UN = shop()
    few = ItemTensors(
        items.vectors, items.present_NM, np.where(np.arange(ITEMS) < 39, items.popularity_N, 0), items.candidate_N
    )
    assert search_map(ContentMapSettings(), few, seen_UN, Edlae.fit(seen_UN), METRIC, 5, 1) is None
