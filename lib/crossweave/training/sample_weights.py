"""What a positive counts, and how the weights of interactions are spread.

Shape letters: N items, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossweave.alignment.balance import balanced
from crossweave.errors import SettingsError
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.sequences import read_all
from crossweave.training.collective import Collective

LEAST = 1e-6  # a positive counts more than nothing: one of weight zero would pass for a negative


@dataclass(frozen=True)
class WeightScale:
    """Mean and standard deviation of the weights of all training interactions; deviation 0: they are all equal."""

    mean: float = 1.0
    deviation: float = 0.0

    def standardise(self, weights_T: np.ndarray) -> np.ndarray:
        """Return (w − mean) / deviation as float32; 0 where all weights are equal."""
        if self.deviation == 0.0:
            return np.zeros(len(weights_T), np.float32)
        return ((weights_T - self.mean) / self.deviation).astype(np.float32)


def weight_scale(manifest: Manifest, collective: Collective) -> WeightScale:
    """Read every shard once, a rank its own; all ranks get the same scale."""
    return _scale(collective.sum(_sums(manifest, collective.rank, collective.size), "weights"))


def weight_scale_of(manifest: Manifest) -> WeightScale:
    """Return the same, read in one process."""
    return _scale(_sums(manifest, 0, 1))


def _sums(manifest: Manifest, rank: int, size: int) -> np.ndarray:
    sums = np.zeros(3)
    for rows in read_all(manifest, rank, size):
        weights = np.concatenate(rows.weights).astype(np.float64)
        sums += len(weights), weights.sum(), np.square(weights).sum()
    return sums


def _scale(sums: np.ndarray) -> WeightScale:
    count, total, squares = sums
    mean = float(total / count)
    variance = float(squares / count) - mean * mean
    # Rounding leaves a little of a variance of 0.
    return WeightScale(mean, variance**0.5 if variance > 1e-9 * mean * mean else 0.0)


class SampleWeights:
    """Weighs positives, each factor with mean 1 over all training interactions.

    `balance` β: popularity^−β, so that popular items do not drown the others (inverse-propensity weighting, Schnabel
    et al. 2016, with propensities ∝ popularity^β). `by_weight`: the interaction's own weight (the confidence of Hu et
    al. 2008). Raises SettingsError where the mean weight is not positive.
    """

    def __init__(self, popularity_N: np.ndarray, balance: float, by_weight: bool, scale: WeightScale) -> None:
        self._by_weight, self._mean = by_weight, scale.mean
        if by_weight and scale.mean <= 0.0:
            raise SettingsError(
                f"train.weight_by=weight needs weights with a positive mean, theirs is {scale.mean:.3g}",
                "set train.weight_by=none",
            )
        self._factor_N = balanced(popularity_N, balance) if balance > 0.0 else None

    def of(self, items_T: np.ndarray, weights_T: np.ndarray) -> np.ndarray:
        """Return what each target counts, float32 above 0, given its item and the weight of its interaction."""
        counts_T = np.ones(len(items_T))
        if self._factor_N is not None:
            counts_T *= self._factor_N[items_T]
        if self._by_weight:
            counts_T *= weights_T / self._mean
        return np.maximum(counts_T, LEAST).astype(np.float32)
