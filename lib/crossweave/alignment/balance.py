"""Weights against imbalance: the more often something stands in the interactions, the less each of them counts."""

from __future__ import annotations

import numpy as np


def balanced(count_X: np.ndarray, exponent: float) -> np.ndarray:
    """Return count^−exponent, float64 [X], scaled so that the mean over all interactions is one."""
    count_X = count_X.astype(np.float64)
    weight_X = np.maximum(count_X, 1.0) ** -exponent
    return np.asarray(weight_X * (count_X.sum() / max(1.0, float(weight_X @ count_X))))
