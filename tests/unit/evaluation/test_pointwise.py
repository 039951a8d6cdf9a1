"""Errors of ratings and clicks: by hand, and against scikit-learn where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crossweave.errors import InputContractError
from crossweave.evaluation.pointwise import calibration_curve, click_errors, rating_errors


def test_errors_of_ratings_on_paper() -> None:
    got = rating_errors([3.0, 4.0, 1.0], [5.0, 4.0, 2.0])
    assert (got.rmse, got.mae, got.pairs) == (math.sqrt(5 / 3), 1.0, 3)


def test_errors_of_clicks_on_paper() -> None:
    got = click_errors([0.9, 0.2, 0.6, 0.4], [1, 0, 0, 1])
    assert got.accuracy == 0.5
    assert got.log_loss == pytest.approx(-(math.log(0.9) + math.log(0.8) + 2 * math.log(0.4)) / 4)
    assert got.calibration_error == pytest.approx((0.1 + 0.2 + 0.6 + 0.6) / 4)  # each pair in a bin of its own
    assert click_errors([0.0, 1.0], [1, 0]).log_loss == pytest.approx(-math.log(1e-7), rel=1e-6)


def test_a_calibration_curve_parts_the_pairs_by_probability() -> None:
    curve = calibration_curve([0.0, 0.1, 0.5, 0.6, 1.0], [0, 1, 0, 1, 1], bins=2)
    np.testing.assert_allclose(curve.predicted_B, [0.05, 0.7])
    np.testing.assert_allclose(curve.observed_B, [0.5, 2 / 3])
    assert curve.pairs_B.tolist() == [2, 3]
    assert curve.error == pytest.approx((2 * 0.45 + 3 * abs(2 / 3 - 0.7)) / 5)


def test_they_equal_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(1)
    probability, clicked = rng.random(500), rng.integers(0, 2, 500)
    got, curve = click_errors(probability, clicked), calibration_curve(probability, clicked)
    rating = rng.integers(1, 6, 500)
    errors = rating_errors(probability, rating)
    assert errors.rmse == pytest.approx(metrics.root_mean_squared_error(rating, probability))
    assert errors.mae == pytest.approx(metrics.mean_absolute_error(rating, probability))
    observed, predicted = pytest.importorskip("sklearn.calibration").calibration_curve(clicked, probability, n_bins=10)
    np.testing.assert_allclose(curve.observed_B, observed)
    np.testing.assert_allclose(curve.predicted_B, predicted)
    assert got.log_loss == pytest.approx(metrics.log_loss(clicked, probability))
    assert got.accuracy == pytest.approx(metrics.accuracy_score(clicked, probability >= 0.5))


@pytest.mark.parametrize("words", [([0.5, 1.2], [0, 1]), ([0.5], [2]), ([], []), ([math.nan], [1]), ([0.1, 0.2], [1])])
def test_what_is_no_probability_or_click_is_refused(words: tuple[list[float], list[float]]) -> None:
    with pytest.raises(InputContractError):
        click_errors(*words)
