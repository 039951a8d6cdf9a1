"""A share of each list for cold items: those that nobody took in training, so that somebody may.

Shape letters: K list places, N items, U users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossweave.scoring.caps import Cap, Rank, Room
from crossweave.scoring.topk import PAD, TopK


@dataclass(frozen=True)
class Exploration:
    """How many of K places go to cold items, and where they may stand."""

    share: float
    first_rank: int  # from 1
    seed: int

    def wanted(self, k: int) -> int:
        """Return the places of a list for cold items: the share of K to the nearest whole number, .5 upwards."""
        return int(self.share * k + 0.5)

    def ranks(self, user: str, k: int, count: int) -> np.ndarray:
        """Draw `count` places (from 0, rising) of a user's list: always the same ones for a seed and a user id."""
        key = hashlib.blake2b(f"{self.seed}:{user}".encode(), digest_size=8).digest()
        drawn = np.random.default_rng(int.from_bytes(key)).permutation(np.arange(self.first_rank - 1, k))
        return np.sort(drawn[:count])


def explore(
    lists: TopK, users: Sequence[str], cold_N: np.ndarray, rank_cold: Rank, how: Exploration, caps: Sequence[Cap]
) -> tuple[TopK, np.ndarray]:
    """Give cold items their places; returns the lists and which places are explored, bool [U, K].

    Cold items that stand in a list by their score count as its share and stay where they are. What lacks of the share
    comes from the user's best other cold items that every cap has room for; they take drawn places, and as many of the
    last items that are not cold leave the list. A list with fewer than K items holds all there is and stays.
    `rank_cold` ranks the cold items alone.
    """
    k = lists.items_UK.shape[1]
    items_UK, scores_UK = lists.items_UK.copy(), lists.scores_UK.copy()
    explored_UK = np.zeros(items_UK.shape, bool)
    full_U = (items_UK != PAD).all(axis=1)
    lacks_U = np.where(full_U, how.wanted(k) - cold_N[items_UK].sum(axis=1), 0)
    lacks_U = np.minimum(lacks_U, k - how.first_rank + 1)
    for user, ranked in _cold_rankings(np.flatnonzero(lacks_U > 0), how.wanted(k), rank_cold, bool(caps)):
        listed = set(items_UK[user].tolist())
        others = [(i, s) for i, s in ranked if i not in listed]
        leaves = np.flatnonzero(~cold_N[items_UK[user]])  # the last of these leave
        lacks = min(int(lacks_U[user]), len(others), len(leaves))
        while lacks > 0:
            stays = np.setdiff1d(np.arange(k), leaves[len(leaves) - lacks :])
            found = _fitting(others, Room(caps, items_UK[user, stays].tolist()), lacks)
            if len(found) == lacks:
                break
            lacks = len(found)
        if lacks <= 0:
            continue
        explored_UK[user, how.ranks(users[user], k, lacks)] = True
        for array, new in ((items_UK, [i for i, _ in found]), (scores_UK, [s for _, s in found])):
            kept = array[user, stays].copy()
            array[user, explored_UK[user]] = new
            array[user, ~explored_UK[user]] = kept
    return TopK(items_UK, scores_UK), explored_UK


def _fitting(ranked: Sequence[tuple[int, float]], room: Room, count: int) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for item, score in ranked:
        if len(found) == count:
            break
        if room.fits(item):
            room.take(item)
            found.append((item, score))
    return found


def _cold_rankings(
    chosen: np.ndarray, wanted: int, rank_cold: Rank, capped: bool
) -> list[tuple[int, list[tuple[int, float]]]]:
    """Return each chosen user's best cold items and their scores: as many as may be needed."""
    if not len(chosen):
        return []
    # At most `wanted` of them stand in the list already; caps may refuse any number.
    ranked = rank_cold(chosen, 2 * wanted if not capped else DEPTH_WITH_CAPS * wanted)
    rows = zip(chosen.tolist(), ranked.items_UK, ranked.scores_UK, strict=True)
    return [
        (user, [(i, s) for i, s in zip(items.tolist(), scores.tolist(), strict=True) if i != PAD])
        for user, items, scores in rows
    ]


DEPTH_WITH_CAPS = 8
"""Of a user's cold items, so many times the share are looked at where caps may refuse some."""
