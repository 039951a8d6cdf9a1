"""What a re-rank step is given and gives back.

Shape letters: E dim of the head's product, N items, P pool, U users.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from crossweave.scoring.topk import PAD, TopK

NOWHERE = -1
"""The place of what does not stand in a list."""


@dataclass(frozen=True)
class Pool:
    """The candidates of U users in their present order, best first."""

    items_UP: np.ndarray  # int64, item indices; PAD behind the last one
    relevance_UP: np.ndarray  # float32: the score, or what a step before made of it; -inf behind the last one

    def ordered(self, place_UP: np.ndarray) -> Pool:
        """Return the candidates in the order of these places."""
        return Pool(*(np.take_along_axis(array, place_UP, 1) for array in (self.items_UP, self.relevance_UP)))


@dataclass(frozen=True)
class ItemFacts:
    """What steps know of the N items."""

    item_NE: Tensor  # the items as recommendations
    center_E: Tensor  # their mean
    popularity_N: np.ndarray  # float32, training interactions

    def directions(self, items: Tensor) -> Tensor:
        """Return vectors [..., E] of length 1 whose inner products are the cosines of these items."""
        return F.normalize(self.item_NE[items] - self.center_E, dim=-1)


class Rerank(ABC):
    """A step: a pool in, the same candidates in another order out."""

    @abstractmethod
    def __call__(self, pool: Pool, facts: ItemFacts) -> Pool:
        """Return the pool in the new order, PAD still last."""


def places_in(items_UP: np.ndarray, user_R: np.ndarray, item_R: np.ndarray) -> np.ndarray:
    """Return where in its user's row (item indices, each once) each of R items stands, int64; NOWHERE: not there."""
    if not items_UP.size:
        return np.full(len(item_R), NOWHERE)
    width = int(max(items_UP.max(), item_R.max(initial=0))) + 2
    keys = (np.arange(len(items_UP))[:, None] * width + items_UP + 1).ravel()
    order = np.argsort(keys, kind="stable")
    wanted_R = user_R * width + item_R + 1
    found_R = order[np.minimum(np.searchsorted(keys[order], wanted_R), len(keys) - 1)]
    return np.where(keys[found_R] == wanted_R, found_R % items_UP.shape[1], NOWHERE)


def reranked(ranking: TopK, steps: list[Rerank], facts: ItemFacts, size: int) -> TopK:
    """Return a ranking with its first `size` places re-ranked by the steps in turn; each item keeps its score."""
    head_UP = ranking.items_UK[:, :size]
    pool = Pool(head_UP, ranking.scores_UK[:, :size])
    for step in steps:
        pool = step(pool, facts)
    user_R = np.repeat(np.arange(len(head_UP)), head_UP.shape[1])
    place_UP = places_in(head_UP, user_R, pool.items_UP.ravel()).reshape(head_UP.shape)
    scores_UP = np.take_along_axis(ranking.scores_UK[:, :size], place_UP, 1)
    scores_UP[pool.items_UP == PAD] = -np.inf
    return TopK(
        np.concatenate([pool.items_UP, ranking.items_UK[:, size:]], axis=1),
        np.concatenate([scores_UP, ranking.scores_UK[:, size:]], axis=1),
    )
