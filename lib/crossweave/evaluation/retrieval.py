"""How well one modality of an item finds another one in the aligned space.

Shapes: S items that have both modalities, D dim of their tokens, Q of them as queries, K found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

KS = (1, 5, 10)
_TINY = 1e-9


@dataclass(frozen=True)
class Found:
    """What one item's query found among the rows of a sample, best first, and where its own other half stands."""

    query: int
    items_K: NDArray[np.int64]
    cosines_K: NDArray[np.float64]
    own_rank: int  # from 1; equals count as lost
    own_cosine: float


def cross_recalls(left_SD: ArrayLike, right_SD: ArrayLike, ks: Sequence[int] = KS) -> dict[int, tuple[float, float]]:
    """Return Recall@K from left to right and from right to left, by K.

    Row s of both sides is the same item and the only right answer; an item of equal cosine counts as before it.
    """
    cosines_SS = _unit(left_SD) @ _unit(right_SD).T
    before = [(side >= np.diag(side)[:, None]).sum(axis=1) - 1 for side in (cosines_SS, cosines_SS.T)]
    return {k: (float((before[0] < k).mean()), float((before[1] < k).mean())) for k in ks}


def find_others(left_SD: ArrayLike, right_SD: ArrayLike, queries_Q: Sequence[int], k: int) -> list[Found]:
    """Let some rows of the left side look for their nearest rows of the right side, by cosine."""
    right_SD = _unit(right_SD)
    found = []
    for query, left_D in zip(queries_Q, _unit(np.asarray(left_SD)[list(queries_Q)]), strict=True):
        cosines_S = right_SD @ left_D
        best_K = np.argsort(-cosines_S, kind="stable")[:k]
        rank = int((cosines_S >= cosines_S[query]).sum())
        found.append(Found(int(query), best_K, cosines_S[best_K], rank, float(cosines_S[query])))
    return found


def _unit(vectors_SD: ArrayLike) -> NDArray[np.float64]:
    vectors_SD = np.asarray(vectors_SD, np.float64)
    return vectors_SD / np.maximum(np.linalg.norm(vectors_SD, axis=1, keepdims=True), _TINY)
