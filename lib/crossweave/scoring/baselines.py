"""Simple recommenders that a model is compared with: fitted in closed form, ranked by the kernel that ranks the model.

Shape letters: U users, N items, K list places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_matrix

from crossweave.alignment.collaborative.base import Blocks
from crossweave.alignment.collaborative.edlae import Edlae
from crossweave.alignment.collaborative.item_knn import ItemKnn
from crossweave.alignment.histories import Histories
from crossweave.alignment.memory import gigabytes
from crossweave.scoring.content_knn import ContentKnn
from crossweave.scoring.topk import Kernel

POPULARITY, ITEM_KNN, EASE, CONTENT_KNN = "popularity", "item_knn", "ease", "content_knn"
BY_BEHAVIOUR = frozenset({ITEM_KNN, EASE})
USERS_AT_ONCE = 1024
TIE = 1e-6  # of the most popular item: equal scores are put in the order of popularity


class Scorer(Protocol):
    """What scores users by their histories."""

    def blocks(self, histories: Histories) -> Blocks:
        """Return the scores of users with these histories, block by block of items."""


def why_not(
    name: str,
    *,
    items: int,
    ease_items: int,
    modalities: int,
    cold: bool,
    interactions: int = 0,
    knn: tuple[int, int] | None = None,
) -> str:
    """Say why a baseline does not fit; empty where it does. `knn`: items and interactions that item_knn may have."""
    if cold and name in BY_BEHAVIOUR:
        return "it knows items by who took them, and nobody took the withheld ones"
    if name == EASE and items > ease_items:
        size = gigabytes(28.0 * items**2)
        return f"the catalog has {items:,} items, and evaluate.ease_items allows {ease_items:,} (it would take {size})"
    if name == ITEM_KNN and knn is not None and items > knn[0]:
        size = gigabytes(24.0 * (interactions + 200 * items))
        return f"the catalog has {items:,} items, and evaluate.item_knn_items allows {knn[0]:,} (it would take {size})"
    if name == ITEM_KNN and knn is not None and interactions > knn[1]:
        size = gigabytes(24.0 * (interactions + 200 * items))
        return (
            f"there are {interactions:,} interactions, and evaluate.item_knn_interactions allows {knn[1]:,} "
            f"(it would take {size})"
        )
    if name == CONTENT_KNN and not modalities:
        return "items have no modality"
    return ""


def fit_baseline(
    name: str, seen_UN: csr_matrix, vectors: Mapping[str, np.ndarray], present_NM: np.ndarray
) -> Scorer | None:
    """Fit a baseline on who took what in training and on the items' content; None: popularity needs no fit.

    `ease` is EDLAE without dropout, every user's history as long as it is (Steck 2019).
    """
    if name == ITEM_KNN:
        return ItemKnn.fit(seen_UN)
    if name == EASE:
        return Edlae.fit(seen_UN, dropout=0.0, user_balance=0.0, dense_items=seen_UN.shape[1])
    return ContentKnn(vectors, present_NM) if name == CONTENT_KNN else None


@torch.inference_mode()
def rank_baseline(
    scorer: Scorer | None,
    histories: Sequence[np.ndarray],
    seen: Sequence[np.ndarray],
    popularity_N: np.ndarray,
    candidates_N: np.ndarray,
    k: int,
    tick: Callable[[int], None] = lambda users: None,
) -> np.ndarray:
    """Return the K best candidates of every user, int64 [U, K], PAD behind the end of a short list.

    `histories` and `seen` are item indices of each user; what is seen is not listed. Without a scorer, and where scores
    are equal (as those of a user without history), the more popular item comes first, then the smaller index.
    """
    popular_N = torch.from_numpy(np.asarray(popularity_N, np.float32))
    bias_N = popular_N if scorer is None else popular_N * (TIE / max(1.0, float(popular_N.max())))
    kernel = Kernel(torch.zeros(len(bias_N), 1), bias_N, allowed_N=torch.from_numpy(candidates_N))
    lists = [np.empty((0, k), np.int64)]
    for start in range(0, len(seen), USERS_AT_ONCE):
        stop = min(start + USERS_AT_ONCE, len(seen))
        addition = None
        if scorer is not None:
            addition = _adding(scorer.blocks(Histories.from_lists(histories[start:stop])))
        best = kernel.best(torch.zeros(stop - start, 1), k, masked=seen[start:stop], addition=addition)
        lists.append(best.items_UK)
        tick(stop)
    return np.concatenate(lists)


def _adding(blocks: Blocks) -> Callable[[torch.Tensor, int, int], None]:
    def add(scores_UB: torch.Tensor, start: int, stop: int) -> None:
        scores_UB.add_(blocks(start, stop))

    return add
