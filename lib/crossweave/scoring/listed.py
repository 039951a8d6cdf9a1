"""Lists of some users laid end to end, before and after something re-ordered them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossweave.scoring.reranks.base import NOWHERE, places_in
from crossweave.scoring.topk import PAD, TopK


@dataclass(frozen=True)
class Listed:
    """R rows of lists, user after user."""

    user_R: np.ndarray  # int64, places in the part
    item_R: np.ndarray  # int64
    score_R: np.ndarray  # float32
    place_R: np.ndarray  # int64 from 0 in the list; NOWHERE: it fell out
    before_R: np.ndarray  # the same before anything re-ordered the list; NOWHERE: it was not there, or nothing does
    explored_R: np.ndarray  # bool

    @classmethod
    def of(cls, after: TopK, before: TopK | None = None, explored_UK: np.ndarray | None = None) -> Listed:
        """Lay lists end to end; what was in a list before and is no longer there follows behind."""
        user_R, place_R = np.nonzero(after.items_UK != PAD)
        item_R, score_R = after.items_UK[user_R, place_R], after.scores_UK[user_R, place_R]
        if before is None or explored_UK is None:
            nowhere_R = np.full(len(user_R), NOWHERE)
            return cls(user_R, item_R, score_R, place_R, nowhere_R, np.zeros(len(user_R), bool))
        before_R = places_in(before.items_UK, user_R, item_R)
        old_user_R, old_place_R = np.nonzero(before.items_UK != PAD)
        fell_R = places_in(after.items_UK, old_user_R, before.items_UK[old_user_R, old_place_R]) == NOWHERE
        old_user_R, old_place_R = old_user_R[fell_R], old_place_R[fell_R]
        return cls(
            np.concatenate([user_R, old_user_R]),
            np.concatenate([item_R, before.items_UK[old_user_R, old_place_R]]),
            np.concatenate([score_R, before.scores_UK[old_user_R, old_place_R]]),
            np.concatenate([place_R, np.full(len(old_user_R), NOWHERE)]),
            np.concatenate([before_R, old_place_R]),
            np.concatenate([explored_UK[user_R, place_R], np.zeros(len(old_user_R), bool)]),
        )

    def first(self, ranks: int) -> np.ndarray:
        """Say which rows are of the first ranks, bool [R]."""
        return (self.place_R != NOWHERE) & (self.place_R < ranks)
