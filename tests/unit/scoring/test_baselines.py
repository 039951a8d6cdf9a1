"""Baselines: what each of them ranks, by hand and against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from crossweave.alignment.collaborative import item_knn
from crossweave.scoring.baselines import fit_baseline, rank_baseline, why_not
from crossweave.scoring.topk import PAD

USERS, ITEMS = 30, 20
NOBODY = np.empty(0, np.int64)


def taken(seed: int = 1) -> csr_matrix:
    seen_UN = (np.random.default_rng(seed).random((USERS, ITEMS)) < 0.3).astype(np.float32)
    seen_UN[:, -1] = 0.0  # an item that nobody took
    return csr_matrix(seen_UN)


def ranked(name: str, seen_UN: csr_matrix, vectors=None, present_NM=None, candidates_N=None, k: int = 5) -> np.ndarray:
    histories = [seen_UN[user].indices.astype(np.int64) for user in range(seen_UN.shape[0])]
    popularity_N = np.asarray(seen_UN.sum(axis=0)).ravel()
    everything = np.ones(seen_UN.shape[1], bool) if candidates_N is None else candidates_N
    scorer = fit_baseline(
        name, seen_UN, vectors or {}, np.ones((seen_UN.shape[1], 0)) if vectors is None else present_NM
    )
    return rank_baseline(scorer, histories, histories, popularity_N, everything, k)


def best(scores_UN: np.ndarray, seen_UN: csr_matrix, k: int = 5) -> np.ndarray:
    hidden_UN = np.where(seen_UN.toarray() > 0, -np.inf, scores_UN)
    return np.argsort(-hidden_UN, axis=1, kind="stable")[:, :k]


def test_popularity_lists_what_most_took_and_never_what_the_user_has() -> None:
    seen_UN = csr_matrix(np.array([[1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]], np.float32))
    assert ranked("popularity", seen_UN, k=3).tolist() == [[2, 1, 3], [1, 3, PAD], [3, PAD, PAD]]
    some_N = np.array([False, True, False, True])
    assert ranked("popularity", seen_UN, candidates_N=some_N, k=2).tolist() == [[1, 3], [1, 3], [3, PAD]]


def test_item_knn_is_the_shrunk_cosine_written_out() -> None:
    seen_UN = taken()
    dense_UN = seen_UN.toarray().astype(np.float64)
    common_NN = dense_UN.T @ dense_UN
    root_N = np.sqrt(common_NN.diagonal())
    weights_NN = common_NN / (np.outer(root_N, root_N) + 10.0)
    np.fill_diagonal(weights_NN, 0.0)
    scores_UN = dense_UN @ weights_NN + 1e-6 * dense_UN.sum(axis=0) / dense_UN.sum(axis=0).max()
    np.testing.assert_array_equal(ranked("item_knn", seen_UN), best(scores_UN, seen_UN))


def test_co_occurrences_counted_some_columns_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = item_knn.ItemKnn.fit(taken(), neighbours=4, dense_items=0).weights_NN.toarray()
    monkeypatch.setattr(item_knn, "COLUMNS_AT_ONCE", 3)
    np.testing.assert_array_equal(
        item_knn.ItemKnn.fit(taken(), neighbours=4, dense_items=0).weights_NN.toarray(), whole
    )
    assert ((whole > 0).sum(axis=0) == 4).sum() >= ITEMS - 2


def test_ease_is_its_closed_form() -> None:
    """B = I − P / diag(P), P = (XᵀX + λI)⁻¹ (Steck 2019, eq. 8), over the items that somebody took."""
    seen_UN = taken(2)
    dense_UN = seen_UN.toarray().astype(np.float64)
    gram = dense_UN.T @ dense_UN
    gram = gram[:-1, :-1]
    inverse = np.linalg.inv(gram + 2.0 * gram.diagonal().mean() * np.eye(ITEMS - 1))
    weights = -inverse / inverse.diagonal()
    np.fill_diagonal(weights, 0.0)
    scores_UN = np.zeros((USERS, ITEMS))
    scores_UN[:, :-1] = dense_UN[:, :-1] @ weights
    scores_UN += 1e-6 * dense_UN.sum(axis=0) / dense_UN.sum(axis=0).max()
    np.testing.assert_array_equal(ranked("ease", seen_UN), best(scores_UN, seen_UN))


def test_content_knn_is_the_cosine_with_the_mean_of_the_history_and_knows_new_items() -> None:
    rng, seen_UN = np.random.default_rng(3), taken(3)
    vectors = {"text": rng.standard_normal((ITEMS, 6)) + 5.0, "image": rng.standard_normal((ITEMS, 4))}
    vectors = {name: value.astype(np.float16) for name, value in vectors.items()}
    present_NM = rng.random((ITEMS, 2)) < 0.7
    sides = []
    for m, value in enumerate(vectors.values()):
        moved = value.astype(np.float64) - value[present_NM[:, m]].astype(np.float64).mean(axis=0)
        sides.append(moved / np.linalg.norm(moved, axis=1, keepdims=True) * present_NM[:, [m]])
    unit_NF = np.concatenate(sides, axis=1)
    unit_NF /= np.maximum(np.linalg.norm(unit_NF, axis=1, keepdims=True), 1e-9)
    dense_UN = seen_UN.toarray()
    profile_UF = dense_UN @ unit_NF / np.maximum(dense_UN.sum(axis=1, keepdims=True), 1)
    tie_N = 1e-6 * dense_UN.sum(axis=0) / dense_UN.sum(axis=0).max()
    got = ranked("content_knn", seen_UN, vectors, present_NM)
    np.testing.assert_array_equal(got, best(profile_UF @ unit_NF.T + tie_N, seen_UN))
    assert (got == ITEMS - 1).any()  # nobody ever took it


def test_a_user_without_history_gets_what_is_popular() -> None:
    seen_UN = taken(4)
    popularity_N = np.asarray(seen_UN.sum(axis=0)).ravel()
    everything = np.ones(ITEMS, bool)
    scorer = fit_baseline("item_knn", seen_UN, {}, np.ones((ITEMS, 0)))
    lists = [rank_baseline(of, [NOBODY], [NOBODY], popularity_N, everything, 7) for of in (scorer, None)]
    np.testing.assert_array_equal(*lists)


def test_what_does_not_fit_says_why() -> None:
    facts = {"items": 50, "ease_items": 50, "modalities": 1, "cold": False}
    assert [why_not(name, **facts) for name in ("popularity", "item_knn", "ease", "content_knn")] == [""] * 4
    assert "50 items, and evaluate.ease_items allows 49" in why_not("ease", **facts | {"ease_items": 49})
    assert "no modality" in why_not("content_knn", **facts | {"modalities": 0})
    cold = facts | {"cold": True}
    assert all("nobody took" in why_not(name, **cold) for name in ("item_knn", "ease"))
    assert why_not("content_knn", **cold) == ""


def test_item_knn_is_left_out_of_a_catalog_with_too_many_items_or_interactions() -> None:
    facts = {"items": 50, "ease_items": 50, "modalities": 2, "cold": False, "interactions": 900}
    assert why_not("item_knn", **facts, knn=(50, 900)) == ""
    assert "50 items, and evaluate.item_knn_items allows 49 (it would take " in why_not(
        "item_knn", **facts, knn=(49, 900)
    )
    assert "900 interactions, and evaluate.item_knn_interactions allows 899" in why_not(
        "item_knn", **facts, knn=(50, 899)
    )
