"""Area under the ROC curve of top-K lists.

Shapes: U users, K list places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.errors import InputContractError
from crossweave.evaluation.metrics import Relevance, checked_ks, hit_matrix


def limited_auc(
    recommended_UK: ArrayLike, relevance: Relevance, candidates_U: ArrayLike, k: int
) -> NDArray[np.float64]:
    """Return each user's chance that a relevant item stands before another candidate, float64 [U] in 0…1.

    The top k count as they stand; behind them the order is unknown, so that a pair there counts one half (LAUC,
    Schröder, Thiele and Lehner 2011). `candidates_U` says how many items could have been listed for each user, the
    relevant ones among them; a user whose candidates are all relevant has 1. Raises InputContractError for lists that
    break the contract, a user without relevant items, or fewer candidates than the user has listed or relevant items.
    """
    (k,) = checked_ks([k])
    hits_UK = hit_matrix(recommended_UK, relevance)[:, :k]
    listed_U = (np.asarray(recommended_UK)[:, :k] >= 0).sum(axis=1)
    relevant_U, found_U = relevance.counts(), hits_UK.sum(axis=1)
    others_U = np.asarray(candidates_U, np.int64) - relevant_U
    if (relevant_U == 0).any():
        raise InputContractError("a user has no relevant item", "Leave users without relevant items out of the batch.")
    if len(others_U) != len(relevant_U) or (others_U < listed_U - found_U).any():
        raise InputContractError("a user has fewer candidates than listed and relevant items")
    place_K = np.arange(1, hits_UK.shape[1] + 1)
    before_UK = place_K - hits_UK.cumsum(axis=1)  # candidates that are not relevant, up to a place
    won_U = np.where(hits_UK, others_U[:, None] - before_UK, 0).sum(axis=1, dtype=np.float64)
    won_U += (relevant_U - found_U) * (others_U - (listed_U - found_U)) / 2.0
    return np.where(others_U > 0, won_U / np.maximum(relevant_U * others_U, 1), 1.0)
