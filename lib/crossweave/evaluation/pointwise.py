"""How well predicted ratings and probabilities fit what happened, pair by pair.

Shapes: P (user, item) pairs, B bins of a calibration curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.errors import InputContractError

SMALLEST = 1e-7  # a probability is kept this far from 0 and 1, so that one sure mistake is not infinitely bad


@dataclass(frozen=True)
class RatingErrors:
    """Errors of predicted ratings, in units of the rating."""

    rmse: float
    mae: float
    pairs: int


@dataclass(frozen=True)
class ClickErrors:
    """Errors of predicted probabilities."""

    accuracy: float  # at one half
    log_loss: float  # natural logarithm
    calibration_error: float
    pairs: int


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """Mean prediction and share of positives of the pairs in each bin that has any."""

    predicted_B: NDArray[np.float64]
    observed_B: NDArray[np.float64]
    pairs_B: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: Σ pairs · |observed − predicted| / Σ pairs (Naeini et al. 2015)."""
        return float(np.average(np.abs(self.observed_B - self.predicted_B), weights=self.pairs_B))


def rating_errors(predicted_P: ArrayLike, rating_P: ArrayLike) -> RatingErrors:
    """Compare predicted ratings with given ones. Raises InputContractError for numbers that are not finite, or none."""
    predicted, rating = _pairs(predicted_P, rating_P)
    error_P = predicted - rating
    return RatingErrors(float(np.sqrt((error_P**2).mean())), float(np.abs(error_P).mean()), len(error_P))


def click_errors(probability_P: ArrayLike, clicked_P: ArrayLike, bins: int = 10) -> ClickErrors:
    """Compare predicted probabilities with what was clicked (0 or 1).

    Raises InputContractError for a probability outside 0…1, a click that is neither 0 nor 1, or no pair.
    """
    probability, clicked = _checked(probability_P, clicked_P)
    kept_P = np.clip(probability, SMALLEST, 1.0 - SMALLEST)
    loss = -np.where(clicked > 0, np.log(kept_P), np.log1p(-kept_P)).mean()
    accuracy = ((probability >= 0.5) == (clicked > 0)).mean()
    curve = calibration_curve(probability, clicked, bins)
    return ClickErrors(float(accuracy), float(loss), curve.error, len(clicked))


def calibration_curve(probability_P: ArrayLike, clicked_P: ArrayLike, bins: int = 10) -> CalibrationCurve:
    """Part the pairs into `bins` of equal width by their probability. Raises InputContractError as `click_errors`."""
    probability, clicked = _checked(probability_P, clicked_P)
    if bins < 1:
        raise InputContractError(f"a calibration curve needs at least one bin, got {bins}")
    bin_P = np.minimum((probability * bins).astype(np.int64), bins - 1)
    pairs_B = np.bincount(bin_P, minlength=bins)
    has_B = pairs_B > 0
    sums = (np.bincount(bin_P, weights=values, minlength=bins)[has_B] for values in (probability, clicked))
    predicted_B, observed_B = (total / pairs_B[has_B] for total in sums)
    return CalibrationCurve(predicted_B, observed_B, pairs_B[has_B])


def _pairs(first_P: ArrayLike, second_P: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(first_P, np.float64), np.asarray(second_P, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise InputContractError(
            f"expected as many predictions as outcomes, one each, got {first.shape}, {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputContractError("predictions and outcomes must be finite numbers")
    return first, second


def _checked(probability_P: ArrayLike, clicked_P: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    probability, clicked = _pairs(probability_P, clicked_P)
    if probability.min() < 0.0 or probability.max() > 1.0:
        raise InputContractError(f"probabilities must lie in 0…1, got {probability.min()}…{probability.max()}")
    if not np.isin(clicked, (0.0, 1.0)).all():
        raise InputContractError("a click is 0 or 1")
    return probability, clicked
