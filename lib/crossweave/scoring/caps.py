"""At most so many items of a category in a list: greedy selection down a ranking.

Shape letters: K list places, P ranked items, N items, U users, V (item, value) pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crossweave.scoring.topk import PAD, TopK

Rank = Callable[[np.ndarray, int], TopK]
"""(places of users, depth) -> the best `depth` items of each of them."""


@dataclass(frozen=True)
class Cap:
    """A column of which a list takes at most `most` items a value; an item may have several values, or none."""

    name: str
    most: int
    start_N: np.ndarray  # int64 [N + 1]: item n has value_V[start_N[n] : start_N[n + 1]]
    value_V: np.ndarray  # int32: codes of values

    @classmethod
    def from_lists(cls, name: str, most: int, values: Sequence[Sequence[str]]) -> Cap:
        """Take each item's values, which need not be sorted."""
        start_N = np.concatenate([[0], np.cumsum([len(own) for own in values])]).astype(np.int64)
        flat = np.array([value for own in values for value in own], dtype=np.str_)
        return cls(name, most, start_N, np.unique(flat, return_inverse=True)[1].astype(np.int32))

    def touched(self, codes: Iterable[int]) -> np.ndarray:
        """Return which items have one of these values, bool [N]."""
        owner_V = np.repeat(np.arange(len(self.start_N) - 1), np.diff(self.start_N))
        touched_N = np.zeros(len(self.start_N) - 1, bool)
        touched_N[owner_V[np.isin(self.value_V, list(codes))]] = True
        return touched_N

    def values(self, item: int) -> list[int]:
        """Return the codes of an item's values."""
        found: list[int] = self.value_V[self.start_N[item] : self.start_N[item + 1]].tolist()
        return found


class Room:
    """What a list may still take; it counts what it took."""

    def __init__(self, caps: Sequence[Cap], items: Iterable[int] = ()) -> None:
        self._caps = caps
        self._taken: list[Counter[int]] = [Counter() for _ in caps]
        for item in items:
            self.take(item)

    def fits(self, item: int) -> bool:
        """Say whether every cap leaves room for an item."""
        return not any(
            taken[value] >= cap.most
            for cap, taken in zip(self._caps, self._taken, strict=True)
            for value in cap.values(item)
        )

    def full(self) -> list[list[int]]:
        """Return for each cap the values that it leaves no room for."""
        return [
            [value for value, count in taken.items() if count >= cap.most]
            for cap, taken in zip(self._caps, self._taken, strict=True)
        ]

    def take(self, item: int) -> None:
        """Count an item."""
        for cap, taken in zip(self._caps, self._taken, strict=True):
            taken.update(cap.values(item))


def capped(rank: Rank, users: int, items: int, k: int, caps: Sequence[Cap]) -> TopK:
    """Return for each of U users the first K items that every cap has room for, down the whole ranking of N items.

    `rank` gives the best `depth` of some of the users. A ranking is cut first at twice K and then, for those whose list
    is not full, four times as deep until it is or nothing is left: exact, and seldom deep.
    """
    lists = TopK(np.full((users, k), PAD, np.int64), np.full((users, k), -np.inf, np.float32))
    waiting, depth = np.arange(users), min(2 * k, max(items, 1))
    while len(waiting):
        unfilled: list[int] = []
        at_once = max(1, 2 * k * users // depth)  # a deeper cut of fewer users: memory stays what it was
        for start in range(0, len(waiting), at_once):
            chosen = waiting[start : start + at_once]
            ranked = rank(chosen, depth)
            for user, items_P, scores_P in zip(chosen.tolist(), ranked.items_UK, ranked.scores_UK, strict=True):
                places = greedy_places(items_P[items_P != PAD], caps, k)
                if len(places) < k and depth < items and items_P[-1] != PAD:
                    unfilled.append(user)
                    continue
                lists.items_UK[user, : len(places)] = items_P[places]
                lists.scores_UK[user, : len(places)] = scores_P[places]
        waiting, depth = np.array(unfilled, np.int64), min(4 * depth, items)
    return lists


def greedy_places(ranking_P: np.ndarray, caps: Sequence[Cap], k: int) -> list[int]:
    """Return the places in a ranking (item indices, best first) of the first `k` items that every cap has room for."""
    room = Room(caps)
    places: list[int] = []
    for place, item in enumerate(ranking_P.tolist()):
        if len(places) == k:
            break
        if room.fits(item):
            room.take(item)
            places.append(place)
    return places
