"""Drift from night to night: nothing where nothing moved, more where more did."""

from __future__ import annotations

import numpy as np
import pytest

from crossweave.errors import InputContractError
from crossweave.evaluation.drift import mean_shift, neighbour_overlap, stability_index


def test_neighbours_survive_a_rotation_and_not_a_shuffle() -> None:
    rng = np.random.default_rng(1)
    before = rng.standard_normal((60, 8))
    rotation, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    assert neighbour_overlap(before, 3.0 * before @ rotation, 5) == 1.0
    half = before.copy()
    half[:30] = rng.standard_normal((30, 8))
    assert 0.1 < neighbour_overlap(before, half, 5) < 0.7
    assert neighbour_overlap(before, rng.permutation(before), 5) < 0.25
    assert neighbour_overlap(before[:2], before[:2], 5) == 1.0
    with pytest.raises(InputContractError, match="same items"):
        neighbour_overlap(before, before[:-1])


def test_the_shift_of_vectors_is_one_minus_their_cosine() -> None:
    before = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [0.0, 0.0]])
    now = np.array([[1.0, 0.0], [0.0, -1.0], [4.0, 3.0], [0.0, 0.0]])
    assert mean_shift(before, now) == pytest.approx((0 + 2 + (1 - 24 / 25) + 0) / 4)
    assert mean_shift(before, 5 * before) == pytest.approx(0.0, abs=1e-7)
    assert mean_shift(before, np.ones((4, 3))) == 1.0
    assert mean_shift(np.empty((0, 2)), np.empty((0, 2))) == 0.0
    with pytest.raises(InputContractError, match="same items"):
        mean_shift(before, now[:2])


def test_the_stability_index_by_hand() -> None:
    before = np.repeat(np.arange(10.0), 10)
    assert stability_index(before, before) == 0.0
    # All in the last of ten bins: nine lose a tenth to the floor, one gains nine tenths.
    moved = 9 * (0.1 - 1e-4) * np.log(0.1 / 1e-4) + 0.9 * np.log(10)
    assert stability_index(before, np.full(50, 9.0)) == pytest.approx(moved)
    rng = np.random.default_rng(2)
    small, large = (stability_index(rng.standard_normal(5000), rng.standard_normal(5000) + by) for by in (0.1, 1.0))
    assert small < 0.1 < 0.25 < large
    with pytest.raises(InputContractError, match="finite"):
        stability_index([], [1.0])
