"""Bootstrap intervals: where they lie, how wide they are, and that they repeat."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from crossweave.errors import InputContractError
from crossweave.evaluation import intervals
from crossweave.evaluation.intervals import bootstrap_mean, bootstrap_means, paired_bootstrap_difference


def recalls(users: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.6, 2.0, users)


def test_the_interval_contains_the_mean_and_both_sides_are_as_wide_as_the_normal_one() -> None:
    values = recalls(4000)
    got = bootstrap_mean(values, seed=1, resamples=4000)
    assert got.low < got.mean < got.high
    assert got.mean == pytest.approx(values.mean(), abs=1e-15)
    assert got.users == 4000
    half = 1.96 * values.std() / np.sqrt(4000)
    assert got.mean - got.low == pytest.approx(half, rel=0.08)  # a one-sided 5 % would be 16 % shorter
    assert got.high - got.mean == pytest.approx(half, rel=0.08)


def test_about_95_of_100_intervals_hold_the_true_mean() -> None:
    truth = 0.6 / 2.6
    intervals_of_samples = [bootstrap_mean(recalls(150, seed), seed=seed, resamples=400) for seed in range(200)]
    assert 0.89 <= np.mean([got.low <= truth <= got.high for got in intervals_of_samples]) <= 0.99


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = recalls(300)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_more_users_and_a_lower_level_make_it_narrower() -> None:
    few, many = bootstrap_mean(recalls(100), seed=2), bootstrap_mean(recalls(10_000), seed=2)
    assert many.high - many.low < (few.high - few.low) / 5
    half = bootstrap_mean(recalls(100), seed=2, level=0.5)
    assert few.low < half.low < half.high < few.high


def test_several_metrics_at_once_equal_each_alone() -> None:
    values = {"recall@20": recalls(500, 1), "ndcg@20": recalls(500, 2)}
    together = bootstrap_means(values, seed=9)
    for name, column in values.items():
        alone = bootstrap_mean(column, seed=9)
        assert (together[name].low, together[name].high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert bootstrap_means({}, seed=9) == {}


def test_drawing_in_blocks_gives_the_same_as_drawing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = recalls(128)
    at_once = bootstrap_mean(values, seed=4, resamples=64)
    monkeypatch.setattr(intervals, "_DRAWS_A_BLOCK", 128 * 10)  # 7 blocks, the last one short
    blocked = bootstrap_mean(values, seed=4, resamples=64)
    assert (blocked.low, blocked.high) == pytest.approx((at_once.low, at_once.high), abs=1e-12)


def test_one_user_has_an_interval_of_no_width() -> None:
    got = bootstrap_mean([0.25], seed=0)
    assert (got.low, got.mean, got.high, got.users) == (0.25, 0.25, 0.25, 1)


def test_pairing_sees_a_small_gain_that_hides_in_the_spread_of_users() -> None:
    base = recalls(400)
    better = base + np.random.default_rng(8).normal(0.004, 0.01, 400)
    got = paired_bootstrap_difference(better, base, seed=3)
    assert 0 < got.low < got.mean < got.high
    assert got.mean == pytest.approx((better - base).mean())
    assert got.p_value == pytest.approx(2 / 1001)
    unpaired = bootstrap_mean(base, seed=3)
    assert unpaired.high - unpaired.low > 5 * (got.high - got.low)


def test_a_difference_of_nothing_but_noise_is_not_significant() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 500)
    got = paired_bootstrap_difference(noise - noise.mean(), np.zeros(500), seed=3)
    assert got.low < 0 < got.high
    assert got.p_value > 0.5
    assert paired_bootstrap_difference([0.5, 0.5], [0.5, 0.5], seed=3).p_value == 1.0


@pytest.mark.parametrize("bad", [[], [[0.1]], [0.1, float("nan")], [float("inf")]])
def test_no_users_and_non_finite_values_are_refused(bad: ArrayLike) -> None:
    with pytest.raises(InputContractError):
        bootstrap_mean(bad, seed=0)


def test_unequal_lengths_levels_and_resamples_are_refused() -> None:
    with pytest.raises(InputContractError, match="same users"):
        paired_bootstrap_difference([0.1], [0.1, 0.2], seed=0)
    with pytest.raises(InputContractError, match="same users"):
        bootstrap_means({"a": [0.1], "b": [0.1, 0.2]}, seed=0)
    with pytest.raises(InputContractError, match="level"):
        bootstrap_mean([0.1], seed=0, level=1.0)
    with pytest.raises(InputContractError, match="resamples"):
        bootstrap_mean([0.1], seed=0, resamples=0)
