"""Ranking metrics: hand arithmetic, a naive loop, the referee, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from crossweave.errors import CrossweaveError, InputContractError
from crossweave.evaluation.metrics import METRICS, Relevance, coverage, gini, hit_matrix, novelty, ranking_metrics

REFEREE = Path(__file__).resolve().parents[4] / "shared" / "tools" / "evaluate_recommendations.py"
LOG3 = 1 / math.log2(3)  # the gain at rank 2; rank 1 gains 1, rank 3 gains 1/2


def naive(row: list[int], relevant: set[int], name: str, k: int) -> float:
    hits = [rank for rank, item in enumerate(row[:k], start=1) if item in relevant and item != -1]
    best = min(k, len(relevant))
    if name == "recall":
        return len(hits) / len(relevant)
    if name == "precision":
        return len(hits) / k
    if name == "f1":
        precision, recall = len(hits) / k, len(hits) / len(relevant)
        return 2 * precision * recall / (precision + recall) if hits else 0.0
    if name == "hit_rate":
        return float(bool(hits))
    if name == "mrr":
        return 1 / hits[0] if hits else 0.0
    if name == "ndcg":
        return sum(1 / math.log2(r + 1) for r in hits) / sum(1 / math.log2(r + 1) for r in range(1, best + 1))
    return sum((seen + 1) / rank for seen, rank in enumerate(hits)) / best


def random_batch(seed: int, users: int, items: int, k: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(items)[:k] for _ in range(users)])
    for row in range(0, users, 3):  # every third list is short
        lists[row, rng.integers(0, k + 1) :] = -1
    relevant = [rng.permutation(items)[: rng.integers(1, items)] for _ in range(users)]
    return lists, relevant


def test_every_metric_of_one_user_is_the_arithmetic_on_paper() -> None:
    # relevant 12, 13, 19; hits at rank 2 (13) and rank 3 (12)
    got = ranking_metrics([[14, 13, 12, 10]], Relevance.from_lists([[12, 13, 19]]), [1, 2, 3])
    want = {
        "recall@1": 0, "ndcg@1": 0, "precision@1": 0, "f1@1": 0, "hit_rate@1": 0, "mrr@1": 0, "map@1": 0,
        "recall@2": 1 / 3, "ndcg@2": LOG3 / (1 + LOG3), "precision@2": 1 / 2, "f1@2": 2 / 5, "hit_rate@2": 1,
        "mrr@2": 1 / 2, "map@2": (1 / 2) / 2,
        "recall@3": 2 / 3, "ndcg@3": (LOG3 + 1 / 2) / (1 + LOG3 + 1 / 2), "precision@3": 2 / 3, "f1@3": 2 / 3,
        "hit_rate@3": 1, "mrr@3": 1 / 2, "map@3": (1 / 2 + 2 / 3) / 3,
    }  # fmt: skip
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].dtype == np.float64
        assert got[name] == pytest.approx([value], abs=1e-12), name


def test_the_ideal_of_ndcg_and_map_is_cut_at_the_number_of_relevant_items() -> None:
    # two relevant items, one found at rank 3, K = 5: the ideal has two hits, not five
    got = ranking_metrics([[9, 8, 1, 7, 6]], Relevance.from_lists([[1, 2]]), [5])
    assert got["ndcg@5"] == pytest.approx([0.5 / (1 + LOG3)])
    assert got["map@5"] == pytest.approx([(1 / 3) / 2])


def test_a_perfect_list_scores_one_and_an_empty_list_scores_zero() -> None:
    got = ranking_metrics([[3, 4, -1], [-1, -1, -1]], Relevance.from_lists([[4, 3], [3]]), [2])
    for name in METRICS:
        assert got[f"{name}@2"].tolist() == [1.0, 0.0], name


def test_a_padded_place_never_counts_as_the_last_item_of_the_user_before() -> None:
    # 1 · width - 1 is the key of (user 0, item width - 1): a naive key lookup would hit here
    assert hit_matrix([[0, 1], [0, -1]], Relevance.from_lists([[4], [3]])).tolist() == [[False, False], [False, False]]


def test_a_k_beyond_the_lists_counts_the_missing_places_as_misses() -> None:
    got = ranking_metrics([[5]], Relevance.from_lists([[5, 6]]), [4])
    assert got["precision@4"].tolist() == [1 / 4]
    assert got["recall@4"].tolist() == [1 / 2]
    assert got["ndcg@4"] == pytest.approx([1 / (1 + LOG3)])


def test_pairs_in_any_order_and_lists_give_the_same_relevance() -> None:
    from_pairs = Relevance.from_pairs([2, 0, 2], [7, 5, 1], users=3)
    from_lists = Relevance.from_lists([[5], [], [7, 1]])
    assert from_pairs.indptr.tolist() == from_lists.indptr.tolist() == [0, 1, 1, 3]
    assert sorted(from_pairs.indices[1:].tolist()) == [1, 7]
    assert from_pairs.counts().tolist() == [1, 0, 2]


def test_a_batch_without_users_gives_empty_columns() -> None:
    got = ranking_metrics(np.empty((0, 5), dtype=np.int64), Relevance.from_lists([]), [5])
    assert {name: column.shape for name, column in got.items()} == {f"{name}@5": (0,) for name in METRICS}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 15), st.integers(1, 15))
def test_the_vectorised_metrics_equal_a_loop(seed: int, users: int, items: int, k: int) -> None:
    lists, relevant = random_batch(seed, users, items, k=min(items, 10))
    got = ranking_metrics(lists, Relevance.from_lists(relevant), [k])
    for name in METRICS:
        want = [naive(row.tolist(), set(own.tolist()), name, k) for row, own in zip(lists, relevant, strict=True)]
        assert got[f"{name}@{k}"] == pytest.approx(want, abs=1e-12), name


def test_a_hundred_thousand_short_lists_equal_a_loop_on_a_sample() -> None:
    rng = np.random.default_rng(3)
    users, items = 100_000, 5_000
    lists = (rng.integers(0, items, users)[:, None] + np.arange(20) * 37) % items
    pairs = np.unique(np.arange(users).repeat(3) * items + rng.integers(0, items, users * 3))
    relevance = Relevance.from_pairs(pairs // items, pairs % items, users)
    got = ranking_metrics(lists, relevance, [20], ["recall", "ndcg"])
    for user in [0, 17, 99_999]:
        own = set(relevance.indices[relevance.indptr[user] : relevance.indptr[user + 1]].tolist())
        for name in ("recall", "ndcg"):
            assert got[f"{name}@20"][user] == pytest.approx(naive(lists[user].tolist(), own, name, 20), abs=1e-12)


@pytest.mark.skipif(not REFEREE.is_file(), reason=f"the referee is not at {REFEREE}")
@pytest.mark.parametrize("protocol", ["warm", "cold"])
def test_recall_ndcg_and_coverage_agree_with_the_referee(protocol: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    users, items, ks = 120, 90, [1, 5, 10, 20, 30]
    cold = np.arange(items) % 3 == 0
    pairs = np.unique(rng.integers(0, users, 3000) * items + rng.integers(0, items, 3000))
    user, item = pairs // items, pairs % items
    split = rng.choice(["train", "valid", "test"], size=len(pairs), p=[0.6, 0.15, 0.25])
    relevant = split == "test" if protocol == "warm" else cold[item]
    lists = np.full((users, 30), -1)
    for u in range(users):
        own_seen = item[(user == u) & (split != "test")]
        allowed = np.setdiff1d(np.arange(items), own_seen) if protocol == "warm" else np.flatnonzero(cold)
        chosen = rng.permutation(allowed)[: rng.integers(0, 31)]
        lists[u, : len(chosen)] = chosen
    pd.DataFrame({"user_id": user, "item_id": item, "split": split}).to_parquet(tmp_path / "interactions.parquet")
    pd.DataFrame({"item_id": np.arange(items), "cold": cold}).to_parquet(tmp_path / "items.parquet")
    at_user, at_rank = np.nonzero(lists != -1)
    pd.DataFrame({"user_id": at_user, "item_id": lists[at_user, at_rank], "rank": at_rank + 1}).to_parquet(
        tmp_path / "lists.parquet"
    )
    command = [sys.executable, str(REFEREE), "--protocol", protocol, "--k", ",".join(map(str, ks))]
    for option, file in [("interactions", "interactions"), ("items", "items"), ("recommendations", "lists")]:
        command += [f"--{option}", str(tmp_path / f"{file}.parquet")]
    referee = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)

    evaluated, rows = np.unique(user[relevant], return_inverse=True)
    relevance = Relevance.from_pairs(rows, item[relevant], len(evaluated))
    ours = ranking_metrics(lists[evaluated], relevance, ks, ["recall", "ndcg"])
    assert len(evaluated) == referee["users_evaluated"]
    for name, values in ours.items():
        assert values.mean() == pytest.approx(referee[name], abs=1e-9), name
    candidates = items if protocol == "warm" else int(cold.sum())
    assert coverage(lists[evaluated], candidates, 20) == pytest.approx(referee["coverage@20"], abs=1e-9)


def test_coverage_counts_distinct_items_of_the_top_k_only() -> None:
    assert coverage([[1, 2, 9], [2, 3, -1]], candidates=10, k=2) == 3 / 10
    assert coverage(np.full((2, 3), -1), candidates=10, k=3) == 0.0


def test_gini_is_zero_for_even_exposure_and_n_minus_one_over_n_for_one_item() -> None:
    assert gini([[0, 1], [2, 3]], candidates=4, k=2) == 0.0
    assert gini([[0], [0], [0]], candidates=4, k=1) == pytest.approx(3 / 4)
    # counts 0, 0, 1, 2: (2·3 - 5)·1 + (2·4 - 5)·2 = 7, over 4 · 3
    assert gini([[5], [5], [6]], candidates=4, k=1) == pytest.approx(7 / 12)
    assert gini([[-1]], candidates=4, k=1) == 0.0


def test_novelty_is_the_mean_self_information_in_bits() -> None:
    # counts 5, 2, 0 plus one each: shares 6/10, 3/10, 1/10
    bits = [-math.log2(0.6), -math.log2(0.3), -math.log2(0.1)]
    got = novelty([[0, 2], [1, -1], [-1, -1]], popularity=[5, 2, 0], k=2)
    assert got == pytest.approx(((bits[0] + bits[2]) / 2 + bits[1]) / 2)
    assert novelty([[-1, -1]], popularity=[5, 2, 0], k=2) == 0.0


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ([[1, 1]], "name an item twice"),
        ([[-1, 1]], "behind an empty place"),
        ([[-2, 1]], "0 or more"),
        ([[0.5, 1.0]], "whole numbers"),
        ([1, 2], "2 dimension"),
        ([[1, 2], [3, 4]], "lists of 1 users, got 2"),
    ],
)
def test_lists_that_break_the_contract_are_refused_by_name(lists: ArrayLike, words: str) -> None:
    with pytest.raises(InputContractError, match=words):
        ranking_metrics(lists, Relevance.from_lists([[1]]), [2])


def test_a_user_without_relevant_items_is_an_error_that_is_also_a_value_error() -> None:
    with pytest.raises(ValueError, match="1 users have no relevant item, the first at row 1") as caught:
        ranking_metrics([[1], [2]], Relevance.from_lists([[1], []]), [1])
    assert isinstance(caught.value, CrossweaveError)
    assert caught.value.hint


def test_bad_relevance_cut_offs_names_and_candidates_are_refused() -> None:
    one = Relevance.from_lists([[1]])
    with pytest.raises(InputContractError, match="repeated"):
        Relevance.from_lists([[1, 2, 1]])
    with pytest.raises(InputContractError, match="0 or more"):
        Relevance.from_lists([[-1]])
    with pytest.raises(InputContractError, match="indptr"):
        Relevance(np.array([0, 3]), np.array([1]))
    with pytest.raises(InputContractError, match="user indices"):
        Relevance.from_pairs([3], [1], users=3)
    with pytest.raises(InputContractError, match="at least 1"):
        ranking_metrics([[1]], one, [0, 5])
    with pytest.raises(InputContractError, match="unknown metrics"):
        ranking_metrics([[1]], one, [1], ["recal"])
    with pytest.raises(InputContractError, match="only 1 are candidates"):
        coverage([[1, 2]], candidates=1, k=2)
    with pytest.raises(InputContractError, match="at least one candidate"):
        gini([[1]], candidates=0, k=1)
    with pytest.raises(InputContractError, match="knows 1 items"):
        novelty([[1]], popularity=[3], k=1)
