"""Draws a step's negatives among the items of training, by popularity, and knows how likely each is drawn.

Shape letters: N items, W items with a training interaction.
"""

from __future__ import annotations

import numpy as np

HALVINGS = 80  # of the interval that τ is sought in


class Negatives:
    """Draws `count` items without replacement, the chance of an item at each draw ∝ popularity^power.

    With power 0 they are uniform; .75 is that of word2vec (Mikolov et al. 2013, §2.2).
    """

    def __init__(self, popularity_N: np.ndarray, count: int, power: float) -> None:
        self._trained_W = np.flatnonzero(popularity_N > 0)
        self._count = min(count, len(self._trained_W))
        self._rate_W = popularity_N[self._trained_W].astype(np.float64) ** power if power > 0.0 else None
        self.inclusion_N = np.zeros(len(popularity_N))  # the probability that an item is drawn
        if self._count == len(self._trained_W):
            self.inclusion_N[self._trained_W] = 1.0
        elif self._rate_W is None:
            self.inclusion_N[self._trained_W] = self._count / len(self._trained_W)
        else:
            self.inclusion_N[self._trained_W] = _inclusion(self._rate_W, self._count)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the drawn items, int64; all of them, in order, where as many are asked for."""
        if self._count == len(self._trained_W):
            return self._trained_W
        if self._rate_W is None:
            return rng.choice(self._trained_W, self._count, replace=False)
        # The first to arrive of exponential clocks with these rates: the Gumbel-top-k trick (Efraimidis & Spirakis
        # 2006; Kool et al. 2019), which costs one sort where drawing one by one costs `count` renormalisations.
        arrival_W = rng.exponential(size=len(self._rate_W)) / self._rate_W
        return self._trained_W[np.argpartition(arrival_W, self._count)[: self._count]]


def _inclusion(rate_W: np.ndarray, count: int) -> np.ndarray:
    """Return P(item among the first `count` clocks) ≈ 1 − exp(−rate τ), τ such that they sum to `count`.

    Rosén's approximation for successive sampling (1972): the time of the last arrival hardly varies once many have
    arrived, so each item is in or out by its own clock alone. Exact where all rates are equal.
    """
    low, high = 0.0, 1.0 / rate_W.min()
    expected = lambda tau: -np.expm1(-rate_W * tau)  # noqa: E731
    while expected(high).sum() < count:
        low, high = high, 2.0 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if expected(middle).sum() < count else (low, middle)
    return np.asarray(expected(high))
