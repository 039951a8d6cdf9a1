"""The plan of a shop, decided before anything is drawn: tastes, purchases, and which item or user plays which part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossweave.demo.faults import FAULTS
from crossweave.demo.taste import Picks, Taste, draw_picks, draw_taste, stream

UNKNOWN_ITEMS = 3
"""Interactions that name an item which the shop does not have."""

_NEW_SHARE = 0.05
_COLD_SHARE = 0.08
_IDLE_USER_SHARE = 0.04
_MISSING_SHARES = {"image": 0.10, "sound": 0.25, "description": 0.05, "tags": 0.08, "style_vector": 0.10}


@dataclass(frozen=True)
class Cast:
    """Which item plays which part; items are indices, and none plays two of the named parts."""

    fault_of_item: dict[int, int]
    """Index in FAULTS by broken item."""
    twin: int
    """The item whose id is repeated: complete and unbroken, so that either copy is a good one."""
    only_title: int
    """The item with nothing but a title."""
    no_content: int
    """The item without any content, title included."""
    missing: dict[str, frozenset[int]]
    """Items without a value, by column."""


@dataclass(frozen=True)
class Blueprint:
    """Everything about a shop that its rows are then drawn from."""

    seed: int
    item_ids: np.ndarray
    taste: Taste
    cast: Cast
    is_new: np.ndarray
    """Mask of the items that nobody has bought yet."""
    is_cold: np.ndarray
    """Mask of the items that the cold protocol withholds, all of them among those sold."""
    picks: Picks


def plan_shop(items: int, users: int, interactions: int, seed: int) -> Blueprint:
    """Decide on a shop with the given numbers of items, users and interactions."""
    taste = draw_taste(items, users, seed)
    is_new = _mask(items, _NEW_SHARE, np.arange(items), stream(seed, "gaps", 1))
    idle = _mask(users, _IDLE_USER_SHARE, np.arange(users), stream(seed, "gaps", 3))
    picks = draw_picks(taste, np.flatnonzero(~idle), np.flatnonzero(~is_new), interactions - UNKNOWN_ITEMS, seed)
    return Blueprint(
        seed=seed,
        item_ids=1000 + 7 * np.arange(items, dtype=np.int64),  # gaps: an id must never pass for an index
        taste=taste,
        cast=_cast_items(items, seed),
        is_new=is_new,
        is_cold=_mask(items, _COLD_SHARE, np.unique(picks.item), stream(seed, "gaps", 2)),
        picks=picks,
    )


def _mask(size: int, share: float, candidates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of `size` with its share, at least one, set among the candidates."""
    mask = np.zeros(size, dtype=bool)
    count = min(max(1, round(share * size)), len(candidates))
    mask[rng.choice(candidates, size=count, replace=False)] = True
    return mask


def _cast_items(items: int, seed: int) -> Cast:
    rng = stream(seed, "gaps")
    order = [int(index) for index in rng.permutation(items)]
    faulty, (twin, only_title, no_content), rest = order[: len(FAULTS)], order[-3:], order[len(FAULTS) : -3]
    bare = {only_title, no_content}
    missing = {
        column: frozenset(bare | set(rng.choice(rest, size=max(1, round(share * items) - 2), replace=False).tolist()))
        for column, share in _MISSING_SHARES.items()
    }
    missing |= {column: frozenset({only_title}) for column in ("category", "price", "released")}
    missing["title"] = frozenset({no_content})
    return Cast(dict(zip(faulty, range(len(FAULTS)), strict=True)), twin, only_title, no_content, missing)
