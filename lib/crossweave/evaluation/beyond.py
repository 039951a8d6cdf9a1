"""What lists are like beyond their hits: how alike their items are, and how they favour what is popular anyway.

Shapes: U users, K list places, N items, D numbers of an item vector.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.errors import InputContractError
from crossweave.evaluation.metrics import PAD, Relevance, checked_ks, checked_lists

LISTS_AT_ONCE = 1024


def intra_list_diversity(recommended_UK: ArrayLike, item_ND: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return the mean of 1 − cosine over all pairs of items in each user's top k (Ziegler et al. 2005).

    `item_ND` are finite item vectors; an item whose vector is zero is unlike all others (1). float64 [U], in 0…2; NaN
    where a list has fewer than two items. Raises InputContractError for an item that has no vector.
    """
    (k,) = checked_ks([k])
    lists_UK = checked_lists(recommended_UK)[:, :k]
    vectors_ND = np.asarray(item_ND, np.float32)
    if not np.isfinite(vectors_ND).all():
        raise InputContractError("an item vector holds NaN or infinity")
    if lists_UK.size and lists_UK.max() >= len(vectors_ND):
        raise InputContractError(f"there are vectors of {len(vectors_ND)} items, a list shows item {lists_UK.max()}")
    unit_ND = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    found = np.full(len(lists_UK), np.nan)
    for start in range(0, len(lists_UK), LISTS_AT_ONCE):
        part_UK = lists_UK[start : start + LISTS_AT_ONCE]
        filled_UK = part_UK != PAD
        picked_UKD = unit_ND[part_UK] * filled_UK[..., None]
        # Σ over pairs of cosines = (‖Σ x‖² − Σ ‖x‖²) / 2
        total_U = (picked_UKD.sum(axis=1, dtype=np.float64) ** 2).sum(axis=1)
        own_U = (picked_UKD.astype(np.float64) ** 2).sum(axis=(1, 2))
        count_U = filled_UK.sum(axis=1)
        pairs_U = count_U * (count_U - 1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            found[start : start + len(part_UK)] = 1.0 - (total_U - own_U) / 2.0 / pairs_U
    return found


def popularity_lift(
    recommended_UK: ArrayLike, histories: Relevance, popularity_N: ArrayLike, k: int
) -> NDArray[np.float64]:
    """Return how much more popular each user's top k is than the user's own history: (list − history) / history.

    Means of the items' training interactions (the user part of ΔGAP, Abdollahpouri et al. 2019). 0: as popular as what
    the user took; 1: twice as popular. float64 [U], NaN without a list, a history, or any popularity in it.
    """
    (k,) = checked_ks([k])
    lists_UK = checked_lists(recommended_UK)[:, :k]
    if len(lists_UK) != histories.users:
        raise InputContractError(f"expected lists of {histories.users} users, got {len(lists_UK)} rows")
    counts_N = np.asarray(popularity_N, np.float64)
    filled_UK = lists_UK != PAD
    listed_U = np.where(filled_UK, counts_N[lists_UK], 0.0).sum(axis=1)
    sums_U = np.bincount(histories.owners(), weights=counts_N[histories.indices], minlength=histories.users)
    with np.errstate(invalid="ignore", divide="ignore"):
        history_U = sums_U / histories.counts()
        lift_U = listed_U / filled_UK.sum(axis=1) / history_U - 1.0
    lift_U[~np.isfinite(lift_U)] = np.nan
    return np.asarray(lift_U)
