"""Negatives are drawn as often as the sampler says they are."""

from __future__ import annotations

import numpy as np
import pytest

from crossweave.training.negatives import Negatives

POPULARITY = np.array([0, *np.arange(1, 61) ** 2, 0], np.float32)  # 60 items from 1 to 3,600 interactions
TRAINED = np.arange(1, 61)


@pytest.mark.parametrize("power", [0.0, 0.5, 0.75, 1.0])
def test_the_probability_of_inclusion_is_the_frequency_of_being_drawn(power: float):
    negatives, rng, rounds = Negatives(POPULARITY, 20, power), np.random.default_rng(3), 20_000
    frequency_N = np.zeros(len(POPULARITY))
    for _ in range(rounds):
        drawn = negatives.draw(rng)
        assert len(np.unique(drawn)) == 20
        frequency_N[drawn] += 1 / rounds
    assert frequency_N[[0, -1]].tolist() == negatives.inclusion_N[[0, -1]].tolist() == [0.0, 0.0]
    assert negatives.inclusion_N.sum() == pytest.approx(20)
    # Rosén's approximation is within 4 % with 20 draws of 60; the rest is the simulation's own error.
    noise_W = 4 * np.sqrt(frequency_N[TRAINED] / rounds)
    assert (np.abs(negatives.inclusion_N - frequency_N)[TRAINED] < 0.04 * frequency_N[TRAINED] + noise_W).all()
    clock_W = -np.log1p(-negatives.inclusion_N[TRAINED])
    assert clock_W[-1] / clock_W[0] == pytest.approx(3600**power)


def test_uniform_negatives_are_the_generator_s_own_draw_and_exactly_as_likely():
    negatives = Negatives(POPULARITY, 20, 0.0)
    expected = np.random.default_rng(8).choice(TRAINED, 20, replace=False)
    assert negatives.draw(np.random.default_rng(8)).tolist() == expected.tolist()
    assert set(negatives.inclusion_N[TRAINED]) == {20 / 60}


@pytest.mark.parametrize("power", [0.0, 0.75])
@pytest.mark.parametrize("count", [60, 1000])
def test_as_many_as_there_are_means_all_of_them_for_certain(power: float, count: int):
    negatives = Negatives(POPULARITY, count, power)
    assert negatives.draw(np.random.default_rng(1)).tolist() == TRAINED.tolist()
    assert (negatives.inclusion_N[TRAINED] == 1.0).all()


def test_no_negatives_are_none():
    for power in (0.0, 0.75):
        negatives = Negatives(POPULARITY, 0, power)
        assert len(negatives.draw(np.random.default_rng(1))) == 0
        assert negatives.inclusion_N.sum() == pytest.approx(0.0, abs=1e-9)
