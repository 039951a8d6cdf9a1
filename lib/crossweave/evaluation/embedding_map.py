"""A picture of the item vectors in two dimensions: t-SNE, exact and without chance.

Shapes: N items of the map, D dim of their vectors.
Source: van der Maaten & Hinton 2008; start by principal components (Kobak & Berens 2019), learning rate N / 12 and at
least 50 (Belkina et al. 2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

PERPLEXITY = 30.0  # neighbours that an item looks at
STEPS, EXAGGERATED_STEPS, EXAGGERATION = 500, 150, 12.0
NEIGHBOURS = 10  # behind `neighbours_kept`
_TINY = 1e-12


def lay_out(vectors_ND: ArrayLike) -> NDArray[np.float64]:
    """Lay items out in the unit square so that those with a high cosine lie near each other.

    Takes centred vectors, float [N, D], finite. Returns float64 [N, 2] within 0..1; the same vectors give the same map.
    Time and memory grow with N²: some thousand items at most.
    """
    unit_ND = _unit(np.asarray(vectors_ND, np.float64))
    count = len(unit_ND)
    if count < 2:
        return np.full((count, 2), 0.5)
    start_N2 = _principal_components(unit_ND)
    return _into_unit_square(start_N2 if count < 4 else _descend(_affinities(unit_ND), start_N2))


def neighbours_kept(vectors_ND: ArrayLike, places_N2: ArrayLike, neighbours: int = NEIGHBOURS) -> float:
    """Return what share of an item's nearest by cosine are among its nearest on the map; chance is neighbours / N."""
    unit_ND = _unit(np.asarray(vectors_ND, np.float64))
    neighbours = min(neighbours, len(unit_ND) - 1)
    if neighbours < 1:
        return 1.0
    truth_NK, shown_NK = (
        _nearest(_squared_distances(points), neighbours) for points in (unit_ND, np.asarray(places_N2, np.float64))
    )
    return float((truth_NK[:, :, None] == shown_NK[:, None, :]).any(axis=2).mean())


def _unit(vectors_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), _TINY)


def _squared_distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    squares_N = (points**2).sum(axis=1)
    return np.maximum(squares_N[:, None] + squares_N[None, :] - 2.0 * points @ points.T, 0.0)


def _nearest(distances_NN: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    others_NN = distances_NN.copy()
    np.fill_diagonal(others_NN, np.inf)
    return np.argsort(others_NN, axis=1, kind="stable")[:, :count]


def _principal_components(unit_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    centred_ND = unit_ND - unit_ND.mean(axis=0)
    left, scales, right = np.linalg.svd(centred_ND, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])  # a direction has no sign of its own
    found = (left * (scales * signs))[:, :2]
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _affinities(unit_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P, symmetric and summing to 1; each row's Gaussian is as wide as PERPLEXITY asks."""
    distances_NN = _squared_distances(unit_ND)
    count = len(distances_NN)
    wanted = np.log(min(PERPLEXITY, (count - 1) / 3.0))
    low_N, high_N = np.full(count, -30.0), np.full(count, 30.0)  # of the logarithm of the precision
    for _ in range(50):
        middle_N = (low_N + high_N) / 2.0
        share_NN, entropy_N = _gaussian(distances_NN, np.exp(middle_N))
        wide_N = entropy_N > wanted
        low_N, high_N = np.where(wide_N, middle_N, low_N), np.where(wide_N, high_N, middle_N)
    return np.maximum((share_NN + share_NN.T) / (2.0 * count), _TINY)


def _gaussian(
    distances_NN: NDArray[np.float64], precision_N: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    logits_NN = -distances_NN * precision_N[:, None]
    np.fill_diagonal(logits_NN, -np.inf)
    logits_NN -= logits_NN.max(axis=1, keepdims=True)
    share_NN = np.exp(logits_NN)
    share_NN /= share_NN.sum(axis=1, keepdims=True)
    return share_NN, -(share_NN * np.log(np.maximum(share_NN, _TINY))).sum(axis=1)


def _descend(wanted_NN: NDArray[np.float64], start_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move the places until their affinities, by Student's t, are near the wanted ones."""
    places_N2 = start_N2 * (1e-4 / max(float(start_N2[:, 0].std()), _TINY))
    velocity_N2, gain_N2 = np.zeros_like(places_N2), np.ones_like(places_N2)
    rate = max(len(places_N2) / EXAGGERATION, 50.0)
    for step in range(STEPS):
        early = step < EXAGGERATED_STEPS
        kernel_NN = 1.0 / (1.0 + _squared_distances(places_N2))
        np.fill_diagonal(kernel_NN, 0.0)
        pull_NN = (wanted_NN * (EXAGGERATION if early else 1.0) - kernel_NN / kernel_NN.sum()) * kernel_NN
        slope_N2 = 4.0 * (pull_NN.sum(axis=1)[:, None] * places_N2 - pull_NN @ places_N2)
        # a step grows while it keeps its direction (Jacobs 1988)
        gain_N2 = np.maximum(np.where(slope_N2 * velocity_N2 < 0, gain_N2 + 0.2, gain_N2 * 0.8), 0.01)
        velocity_N2 = (0.5 if early else 0.8) * velocity_N2 - rate * gain_N2 * slope_N2
        places_N2 = places_N2 + velocity_N2
    return places_N2


def _into_unit_square(places_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale both axes alike, so that distances stay true, and centre what is left over."""
    low_2, high_2 = places_N2.min(axis=0), places_N2.max(axis=0)
    side = float((high_2 - low_2).max())
    return np.clip((places_N2 - (low_2 + high_2) / 2.0) / max(side, _TINY) + 0.5, 0.0, 1.0)
