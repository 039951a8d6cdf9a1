"""Ranking metrics of top-K lists, one value a user, and the figures of whole sets of lists.

Definitions follow the project's referee where it has one (recall, NDCG, coverage):

    recall@K    = hits in the top K / relevant items
    precision@K = hits in the top K / K                    (a short list is not forgiven)
    f1@K        = 2 · precision · recall / (precision + recall), 0 without a hit
    hit_rate@K  = 1 if the top K has a hit, else 0
    mrr@K       = 1 / rank of the first hit in the top K, else 0
    ndcg@K      = Σ over hits 1/log2(rank + 1)  /  the same sum with min(K, relevant) hits on top
    map@K       = Σ over hits precision@rank  /  min(K, relevant)

Shapes: U users, K list places, R relevant (user, item) pairs, I items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.errors import InputContractError

METRICS: tuple[str, ...] = ("recall", "ndcg", "precision", "f1", "hit_rate", "mrr", "map")
PAD = -1


@dataclass(frozen=True, eq=False)
class Relevance:
    """The relevant items of a batch of users, as compressed rows.

    `indptr` int64 [U + 1] and `indices` int64 [R]: user u's items are `indices[indptr[u]:indptr[u + 1]]`, each
    item once, in any order. Raises InputContractError when the two do not fit together or an item repeats.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "indptr", _whole_numbers(self.indptr, "indptr", 1))
        object.__setattr__(self, "indices", _whole_numbers(self.indices, "indices", 1))
        starts = self.indptr
        if len(starts) < 1 or starts[0] != 0 or starts[-1] != len(self.indices) or (np.diff(starts) < 0).any():
            raise InputContractError(
                f"indptr must rise from 0 to the {len(self.indices)} relevant pairs, got {starts[:3]}…{starts[-1:]}"
            )
        if self.indices.min(initial=0) < 0:
            raise InputContractError(f"relevant item indices must be 0 or more, got {self.indices.min()}")
        keys = self.keys(int(self.indices.max(initial=0)) + 1)
        repeated = int((keys[1:] == keys[:-1]).sum())
        if repeated:
            raise InputContractError(f"{repeated} relevant (user, item) pairs are repeated", "Drop the duplicates.")

    @classmethod
    def from_lists(cls, items_of_users: Iterable[ArrayLike]) -> Relevance:
        """Build from one array of item indices a user, in the users' order."""
        rows = [_whole_numbers(row, "a user's relevant items", 1) for row in items_of_users]
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        indices = np.concatenate(rows) if rows else np.empty(0, np.int64)
        return cls(indptr.astype(np.int64), indices)

    @classmethod
    def from_pairs(cls, user_R: ArrayLike, item_R: ArrayLike, users: int) -> Relevance:
        """Build from (user index, item index) pairs in any order; `users` is U, the rows of the result."""
        owners = _whole_numbers(user_R, "the users of the relevant pairs", 1)
        items = _whole_numbers(item_R, "the items of the relevant pairs", 1)
        if len(owners) != len(items):
            raise InputContractError(
                f"expected as many items as users in the pairs, got {len(items)} and {len(owners)}"
            )
        if len(owners) and (owners.min() < 0 or owners.max() >= users):
            raise InputContractError(f"user indices must lie in 0…{users - 1}, got {owners.min()}…{owners.max()}")
        counts = np.bincount(owners, minlength=users)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items[np.argsort(owners, kind="stable")])

    @property
    def users(self) -> int:
        """U, the number of users."""
        return len(self.indptr) - 1

    def counts(self) -> NDArray[np.int64]:
        """Relevant items of each user, int64 [U]."""
        return np.diff(self.indptr)

    def owners(self) -> NDArray[np.int64]:
        """The user index of every pair, int64 [R]."""
        return np.repeat(np.arange(self.users, dtype=np.int64), self.counts())

    def keys(self, width: int) -> NDArray[np.int64]:
        """The sorted numbers user · width + item, int64 [R]; `width` must exceed every item index."""
        keys = self.owners() * width + self.indices
        keys.sort()
        return keys


def hit_matrix(recommended_UK: ArrayLike, relevance: Relevance) -> NDArray[np.bool_]:
    """Say for every place of every list whether its item is relevant to that user.

    `recommended_UK` whole numbers [U, K], best first, -1 only at the end of a row, no item twice in a row.
    Returns bool [U, K]. Raises InputContractError for lists that break this or another number of users.
    """
    lists_UK = checked_lists(recommended_UK)
    if len(lists_UK) != relevance.users:
        raise InputContractError(f"expected lists of {relevance.users} users, got {len(lists_UK)} rows")
    if not lists_UK.size or not len(relevance.indices):
        return np.zeros(lists_UK.shape, dtype=np.bool_)
    width = int(max(lists_UK.max(), relevance.indices.max())) + 1
    keys_R = relevance.keys(width)
    probes_UK = np.arange(len(lists_UK), dtype=np.int64)[:, None] * width + lists_UK
    places_UK = np.minimum(np.searchsorted(keys_R, probes_UK), len(keys_R) - 1)
    # a padded place (-1) probes the key of the previous user's last item: it never counts
    return (keys_R[places_UK] == probes_UK) & (lists_UK != PAD)


def ranking_metrics(
    recommended_UK: ArrayLike,
    relevance: Relevance,
    ks: Sequence[int],
    metrics: Sequence[str] = METRICS,
) -> dict[str, NDArray[np.float64]]:
    """Compute the metrics of every user at every K.

    `recommended_UK` as in `hit_matrix`; a K beyond its width treats the missing places as misses. Returns
    {"recall@10": float64 [U], …} in the order of `ks`, then `metrics`; every value lies in 0…1. Raises
    InputContractError for lists that break the contract, an unknown metric, K < 1, or a user without relevant
    items (such users belong to no average: leave them out first).
    """
    ks = checked_ks(ks)
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise InputContractError(f"unknown metrics {unknown}", f"Known are {', '.join(METRICS)}.")
    hits_UK = hit_matrix(recommended_UK, relevance)
    relevant_U = relevance.counts()
    without = np.flatnonzero(relevant_U == 0)
    if len(without):
        raise InputContractError(
            f"{len(without)} users have no relevant item, the first at row {without[0]}",
            "Leave users without relevant items out of the batch.",
        )
    result: dict[str, NDArray[np.float64]] = {}
    for k in ks:
        for name in metrics:
            result[f"{name}@{k}"] = _at_k(name, hits_UK[:, :k], relevant_U, k)
    return result


def coverage(recommended_UK: ArrayLike, candidates: int, k: int) -> float:
    """Share of the candidate items that stand in somebody's top k.

    `candidates` is the number of items that could have been shown. 0.0 when no list has an item. Raises
    InputContractError when more items were shown than there are candidates.
    """
    shown, _ = _exposure(recommended_UK, candidates, k)
    return len(shown) / candidates


def gini(recommended_UK: ArrayLike, candidates: int, k: int) -> float:
    """Inequality of the exposure of the candidates in the top k (Gini coefficient).

    0 when every candidate is shown equally often, (n - 1) / n when one of n takes every place; 0.0 when nothing
    is shown. Formula: Σ (2i - n - 1) x_i / (n Σ x_i) over the counts x in rising order, i from 1.
    """
    _, counts = _exposure(recommended_UK, candidates, k)
    if not len(counts):
        return 0.0
    shown = np.sort(counts).astype(np.float64)
    place = np.arange(candidates - len(shown) + 1, candidates + 1)  # never-shown candidates fill the first places
    return float(((2.0 * place - candidates - 1.0) * shown).sum() / (candidates * shown.sum()))


def novelty(recommended_UK: ArrayLike, popularity: ArrayLike, k: int) -> float:
    """Mean self-information of the top k, in bits: high when lists show little-known items.

    `popularity` [I] counts each item's training interactions. An item's share is smoothed by one,
    p = (count + 1) / (Σ counts + I), so that a never-seen item has a finite -log2 p. Each user's places are
    averaged, then the users that have a list; 0.0 when nobody has one. Source: Vargas and Castells, RecSys 2011.
    """
    (k,) = checked_ks([k])
    lists_UK = checked_lists(recommended_UK)[:, :k]
    counts = np.asarray(popularity, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise InputContractError(f"popularity must be one finite count of 0 or more an item, got shape {counts.shape}")
    if lists_UK.size and lists_UK.max() >= len(counts):
        raise InputContractError(f"popularity knows {len(counts)} items, a list shows item {lists_UK.max()}")
    filled_UK = lists_UK != PAD
    places_U = filled_UK.sum(axis=1)
    if not places_U.any():
        return 0.0
    bits = -np.log2((counts + 1.0) / (counts.sum() + len(counts)))
    total_U = np.where(filled_UK, bits[lists_UK], 0.0).sum(axis=1)
    has = places_U > 0
    return float((total_U[has] / places_U[has]).mean())


def checked_lists(recommended_UK: ArrayLike) -> NDArray[np.int64]:
    """Return the lists as int64 [U, K], or raise InputContractError naming what breaks the contract."""
    lists_UK = _whole_numbers(recommended_UK, "the recommended items", 2)
    if not lists_UK.size:
        return lists_UK
    if lists_UK.min() < PAD:
        raise InputContractError(f"item indices must be 0 or more, or {PAD} for no item, got {lists_UK.min()}")
    filled_UK = lists_UK != PAD
    holes = int((filled_UK[:, 1:] & ~filled_UK[:, :-1]).any(axis=1).sum())
    if holes:
        raise InputContractError(f"{holes} lists have an item behind an empty place", "Pad with -1 at the end only.")
    ordered_UK = np.sort(lists_UK, axis=1)
    twice = ((ordered_UK[:, 1:] == ordered_UK[:, :-1]) & (ordered_UK[:, 1:] != PAD)).any(axis=1)
    if twice.any():
        raise InputContractError(f"{int(twice.sum())} lists name an item twice, the first at row {twice.argmax()}")
    return lists_UK


def checked_ks(ks: Iterable[int]) -> list[int]:
    """Return the cut-offs in rising order, each once.

    Raises InputContractError when none is given or one is below 1.
    """
    ordered = sorted({int(k) for k in ks})
    if not ordered or ordered[0] < 1:
        raise InputContractError(f"every K must be at least 1 and one must be given, got {ordered}")
    return ordered


def _at_k(name: str, hits_UK: NDArray[np.bool_], relevant_U: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    rank_K = np.arange(1, hits_UK.shape[1] + 1, dtype=np.float64)
    found_U = hits_UK.sum(axis=1).astype(np.float64)
    best_U = np.minimum(relevant_U, k)
    if name == "recall":
        return found_U / relevant_U
    if name == "precision":
        return found_U / k
    if name == "f1":
        return 2.0 * found_U / (k + relevant_U)
    if name == "hit_rate":
        return (found_U > 0).astype(np.float64)
    if name == "mrr":
        return (hits_UK / rank_K).max(axis=1, initial=0.0)  # the largest 1/rank among hits is the first hit's
    if name == "ndcg":
        ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
        return hits_UK @ (1.0 / np.log2(rank_K + 1.0)) / ideal[best_U]
    precision_UK = hits_UK.cumsum(axis=1) / rank_K
    return np.where(hits_UK, precision_UK, 0.0).sum(axis=1) / best_U


def _exposure(recommended_UK: ArrayLike, candidates: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    (k,) = checked_ks([k])
    if candidates < 1:
        raise InputContractError(f"there must be at least one candidate item, got {candidates}")
    top_UK = checked_lists(recommended_UK)[:, :k]
    shown, counts = np.unique(top_UK[top_UK != PAD], return_counts=True)
    if len(shown) > candidates:
        raise InputContractError(f"{len(shown)} different items are shown but only {candidates} are candidates")
    return shown, counts.astype(np.int64)


def _whole_numbers(values: ArrayLike, what: str, dimensions: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0 and array.ndim == dimensions:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != dimensions:
        raise InputContractError(
            f"{what} must be whole numbers with {dimensions} dimension(s), got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.int64, copy=False)
