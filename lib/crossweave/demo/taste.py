"""The hidden structure of the shop: what an item is made of, what a user likes, and who picked what.

Shapes: N items, U users, F factors, V values of a factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

CATEGORIES = ("poster", "record", "cushion", "mug", "notebook", "lamp")
STYLES = ("bauhaus", "deco", "botanical", "nordic", "sunburst", "terrazzo")
PALETTES = ("ember", "lagoon", "meadow", "dusk", "sand", "citrus")
MOODS = ("calm", "playful", "wistful", "bold", "dreamy")
FACTORS = (CATEGORIES, STYLES, PALETTES, MOODS)

AGE_GROUPS = ("18-24", "25-34", "35-49", "50-64", "65+")
COUNTRIES = ("DE", "DK", "ES", "FR", "IT", "JP", "PT", "SE")

STYLE_DIM = 16

_AFFINITY = 4.0  # how much likelier a favoured value of the next factor is: modalities inform each other
_TASTE_SCALE = (0.9, 1.5, 1.2, 1.3)  # spread of a user's liking per factor; style tells users apart most
_AGE_SHARE, _COUNTRY_SHARE = 0.7, 0.5  # part of the taste that the attributes explain, so that new users can be served
_ZIPF_EXPONENT = 0.7
_ACTIVITY_SIGMA = 0.7  # log-normal spread of how much users buy
_MOST_ACTIVE = 5  # no user buys more than this many times the mean
_VECTOR_NOISE = 0.45

_STREAMS = {
    name: number
    for number, name in enumerate(
        ("factors", "users", "popularity", "picks", "times", "vectors", "words", "pictures", "sounds", "gaps", "broken")
    )
}


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return the random stream of one purpose (and one row), so that no part of the shop shifts another."""
    return np.random.default_rng([seed, _STREAMS[name], *index])


@dataclass(frozen=True)
class Taste:
    """Hidden factors of N items and tastes of U users."""

    factors: np.ndarray
    """(N, F) index of each item's category, style, palette and mood."""
    popularity: np.ndarray
    """(N,) log weight of each item, Zipf-like."""
    likings: tuple[np.ndarray, ...]
    """Per factor, (U, V) log preferences."""
    age: np.ndarray
    """(U,) index of each user's age group."""
    country: np.ndarray
    """(U,) index of each user's country."""

    def liking(self, user: int) -> np.ndarray:
        """Return one user's log preference for every item, popularity left out."""
        factors = zip(self.likings, self.factors.T, strict=True)
        return np.sum([likings_UV[user][values_N] for likings_UV, values_N in factors], axis=0)


def draw_taste(items: int, users: int, seed: int) -> Taste:
    """Draw the hidden factors of the items and the tastes of the users."""
    rng = stream(seed, "popularity")
    popularity_N = -_ZIPF_EXPONENT * np.log(rng.permutation(items) + 3.0)
    rng = stream(seed, "users")
    age_U = rng.integers(len(AGE_GROUPS), size=users)
    country_U = rng.integers(len(COUNTRIES), size=users)
    likings = [
        scale * rng.normal(size=(users, len(values))) for scale, values in zip(_TASTE_SCALE, FACTORS, strict=True)
    ]
    likings[1] = likings[1] + _AGE_SHARE * rng.normal(size=(len(AGE_GROUPS), len(STYLES)))[age_U]
    likings[2] = likings[2] + _COUNTRY_SHARE * rng.normal(size=(len(COUNTRIES), len(PALETTES)))[country_U]
    return Taste(_draw_factors(items, seed), popularity_N, tuple(likings), age_U, country_U)


def _draw_factors(items: int, seed: int) -> np.ndarray:
    """Draw each item's factor values as a chain category → style → palette → mood of mild affinities."""
    rng = stream(seed, "factors")
    chain = [rng.integers(len(CATEGORIES), size=items)]
    for before, after in pairwise(FACTORS):
        odds = np.ones((len(before), len(after)))
        for value in range(len(before)):
            odds[value, rng.choice(len(after), size=2, replace=False)] = _AFFINITY
        cumulative = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
        drawn = (rng.random(items)[:, None] > cumulative[chain[-1]]).sum(axis=1)
        chain.append(np.minimum(drawn, len(after) - 1))  # rounding can leave the last edge below 1
    return np.stack(chain, axis=1)


def style_vectors(factors: np.ndarray, seed: int) -> np.ndarray:
    """Return a noisy (items, 16) float32 projection of the hidden factors."""
    rng = stream(seed, "vectors")
    vectors = np.zeros((len(factors), STYLE_DIM))
    for values, column in zip(FACTORS, factors.T, strict=True):
        vectors += rng.normal(scale=0.5, size=(len(values), STYLE_DIM))[column]  # a sum of rows: no BLAS, same bytes
    return (vectors + _VECTOR_NOISE * rng.normal(size=vectors.shape)).astype(np.float32)


@dataclass(frozen=True)
class Picks:
    """Who picked what: users and items as indices, with the ratings, no pair twice."""

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    """Stars from 1 to 5, in halves."""


def draw_picks(taste: Taste, buyers: np.ndarray, on_sale: np.ndarray, count: int, seed: int) -> Picks:
    """Draw exactly `count` picks of the items on sale by the buyers, by softmax of taste plus popularity."""
    users, items, ratings = [], [], []
    for user, size in zip(buyers, _activity(len(buyers), len(on_sale), count, seed), strict=True):
        rng = stream(seed, "picks", int(user))
        liking_N = taste.liking(int(user))
        # The largest of log weight + Gumbel noise are a draw without repeats from the softmax.
        keys = (liking_N + taste.popularity)[on_sale] + rng.gumbel(size=len(on_sale))
        chosen = on_sale[np.argsort(-keys, kind="stable")[:size]]
        standing = (liking_N[chosen] - liking_N.mean()) / (liking_N.std() + 1e-9)
        stars = np.clip(np.round(2 * (2.9 + 0.75 * standing + rng.normal(scale=0.5, size=size))) / 2, 1.0, 5.0)
        users.append(np.full(size, user))
        items.append(chosen)
        ratings.append(stars)
    return Picks(np.concatenate(users), np.concatenate(items), np.concatenate(ratings))


def _activity(buyers: int, on_sale: int, count: int, seed: int) -> np.ndarray:
    """Share `count` picks among the buyers, log-normally: each has at least one, none buys out the shop."""
    rng = stream(seed, "picks")
    most = min(on_sale, math.ceil(_MOST_ACTIVE * count / buyers))
    weights = rng.lognormal(sigma=_ACTIVITY_SIGMA, size=buyers)
    sizes = np.clip((weights / weights.sum() * count).astype(np.int64), 1, most)
    while (rest := count - int(sizes.sum())) != 0:
        step = 1 if rest > 0 else -1
        movable = np.flatnonzero(sizes < most if step > 0 else sizes > 1)
        sizes[rng.permutation(movable)[: abs(rest)]] += step
    return sizes
