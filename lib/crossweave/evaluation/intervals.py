"""Percentile bootstrap over users: how far a mean could lie from where it was measured.

Users are drawn with replacement; all metrics of a call share the same draws, so that drawing (the dear part) is
paid once. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
Shapes: U users, M metrics, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.errors import InputContractError

RESAMPLES = 1000
_DRAWS_A_BLOCK = 2_000_000  # user draws held at once: 16 MB of counts


@dataclass(frozen=True)
class Interval:
    """A mean over users with its percentile interval."""

    mean: float
    low: float
    high: float
    users: int


@dataclass(frozen=True)
class Difference:
    """A mean paired difference a - b with its percentile interval.

    `p_value` is two-sided: twice the smaller share of resampled differences at or beyond 0, each share counted
    with one added so that it is never 0; its floor is 2 / (B + 1).
    """

    mean: float
    low: float
    high: float
    p_value: float
    users: int


def bootstrap_mean(values_U: ArrayLike, *, seed: int, resamples: int = RESAMPLES, level: float = 0.95) -> Interval:
    """Bootstrap the mean of one value a user.

    `values_U` finite numbers [U], U ≥ 1; `level` the share of resampled means inside the interval. The same
    arguments give the same interval. Raises InputContractError for no users, non-finite values or a bad level.
    """
    return bootstrap_means({"mean": values_U}, seed=seed, resamples=resamples, level=level)["mean"]


def bootstrap_means(
    values: Mapping[str, ArrayLike], *, seed: int, resamples: int = RESAMPLES, level: float = 0.95
) -> dict[str, Interval]:
    """Bootstrap the means of several metrics over the same users with the same draws.

    `values` {name: finite numbers [U]}, all of one length. Returns {name: Interval}, each equal to what
    `bootstrap_mean` gives for that metric alone (to rounding). Raises InputContractError as `bootstrap_mean` does.
    """
    if not values:
        return {}
    columns = {name: _finite_vector(column, name) for name, column in values.items()}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1:
        raise InputContractError(f"all metrics must cover the same users, got lengths {sorted(lengths)}")
    values_UM = np.stack(list(columns.values()), axis=1)
    mean_M = values_UM.mean(axis=0)
    low_M, high_M = np.quantile(_resampled_means(values_UM, seed, resamples), _tails(level), axis=0)
    return {
        name: Interval(float(mean_M[m]), float(low_M[m]), float(high_M[m]), len(values_UM))
        for m, name in enumerate(columns)
    }


def paired_bootstrap_difference(
    a_U: ArrayLike, b_U: ArrayLike, *, seed: int, resamples: int = RESAMPLES, level: float = 0.95
) -> Difference:
    """Bootstrap the mean of a - b where both were measured on the same users in the same order.

    `a_U`, `b_U` finite numbers [U]. Positive means that a is better. Raises InputContractError when the two
    have different lengths, and as `bootstrap_mean` does.
    """
    a, b = _finite_vector(a_U, "a"), _finite_vector(b_U, "b")
    if len(a) != len(b):
        raise InputContractError(f"a paired comparison needs the same users, got {len(a)} and {len(b)}")
    difference_U = a - b
    means_B = _resampled_means(difference_U[:, None], seed, resamples)[:, 0]
    low, high = np.quantile(means_B, _tails(level))
    smaller = min(int((means_B <= 0).sum()), int((means_B >= 0).sum()))
    p_value = min(1.0, 2.0 * (smaller + 1) / (resamples + 1))
    return Difference(float(difference_U.mean()), float(low), float(high), p_value, len(a))


def _resampled_means(values_UM: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Means of `resamples` draws of U users with replacement, float64 [B, M]."""
    if resamples < 1:
        raise InputContractError(f"resamples must be at least 1, got {resamples}")
    users = len(values_UM)
    rng = np.random.default_rng(seed)
    means_BM = np.empty((resamples, values_UM.shape[1]))
    block = max(1, _DRAWS_A_BLOCK // users)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, users, size=(rows, users))
        drawn += np.arange(rows)[:, None] * users
        times_bU = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        means_BM[start : start + rows] = times_bU.astype(np.float64) @ values_UM / users
    return means_BM


def _tails(level: float) -> tuple[float, float]:
    if not 0.0 < level < 1.0:
        raise InputContractError(f"level must lie between 0 and 1, got {level}")
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0


def _finite_vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not len(vector):
        raise InputContractError(f"{name}: expected one value a user and at least one user, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise InputContractError(f"{name}: {int((~np.isfinite(vector)).sum())} of {len(vector)} values are not finite")
    return vector
