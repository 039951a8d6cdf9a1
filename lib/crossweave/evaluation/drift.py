"""How far tonight's vectors, scores and catalog moved from last night's.

Shapes: N items known on both nights, D numbers of a vector, S scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.errors import InputContractError

BINS = 10
SMALLEST_SHARE = 1e-4  # of an empty bin, so that the index stays finite


def neighbour_overlap(before_ND: ArrayLike, now_ND: ArrayLike, k: int = 10) -> float:
    """Return the mean share of an item's k nearest neighbours that stayed the same, 0…1.

    Two trainings of one model differ by a rotation, which changes every vector and nothing that matters: who is near
    whom is what a reader of vectors sees. Cosine; the same items in the same order, N at least 2. Raises
    InputContractError for vectors that are not finite or other items.
    """
    nearest = []
    sides = [np.asarray(side, np.float32) for side in (before_ND, now_ND)]
    if sides[0].ndim != 2 or len(sides[0]) != len(sides[1]) or len(sides[0]) < 2:
        raise InputContractError("expected vectors of the same items, at least two, of both nights")
    k = min(k, len(sides[0]) - 1)
    for side in sides:
        if not np.isfinite(side).all():
            raise InputContractError("a vector holds NaN or infinity")
        unit = side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -np.inf)
        nearest.append(np.argpartition(-cosine, k - 1, axis=1)[:, :k])
    both = [len(np.intersect1d(a, b)) for a, b in zip(*nearest, strict=True)]
    return float(np.mean(both)) / k


def mean_shift(before_ND: ArrayLike, now_ND: ArrayLike) -> float:
    """Return the mean of 1 − cosine between an item's vectors of both nights, 0…2.

    1 where they have other lengths: two encoders' vectors have nothing in common; 0 for no item. A zero vector is
    unlike all but another one. Raises InputContractError for other items.
    """
    before, now = (np.asarray(side, np.float32) for side in (before_ND, now_ND))
    if before.ndim != 2 or now.ndim != 2 or len(before) != len(now):
        raise InputContractError("expected vectors of the same items of both nights")
    if not len(before):
        return 0.0
    if before.shape != now.shape:
        return 1.0
    norms_N = np.linalg.norm(before, axis=1) * np.linalg.norm(now, axis=1)
    cosine_N = (before * now).sum(axis=1) / np.where(norms_N > 0, norms_N, 1.0)
    cosine_N[(before == now).all(axis=1)] = 1.0
    return float((1.0 - cosine_N).mean(dtype=np.float64))


def stability_index(before_S: ArrayLike, now_S: ArrayLike) -> float:
    """Return the population stability index of two samples of scores: Σ (q − p) ln(q / p) over deciles of the first.

    0 where nothing moved; by custom .1 is a small change and .25 a large one (Siddiqi 2006). Raises InputContractError
    for an empty sample or numbers that are not finite.
    """
    before, now = np.asarray(before_S, np.float64).ravel(), np.asarray(now_S, np.float64).ravel()
    if not len(before) or not len(now) or not (np.isfinite(before).all() and np.isfinite(now).all()):
        raise InputContractError("a stability index needs finite scores of both nights")
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [_shares(side, edges) for side in (before, now)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return np.maximum(counts / len(values), SMALLEST_SHARE)
