"""Maximal marginal relevance (Carbonell & Goldstein 1998): each next item is good, and unlike those before it.

Shape letters: E dim of the head's product, P pool, U users.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.ranges import Share
from crossweave.errors import SettingsError
from crossweave.scoring.reranks.base import ItemFacts, Pool, Rerank
from crossweave.scoring.topk import PAD

USERS_AT_ONCE = 128  # bounds the cosines between the items of a pool: 20 MB for pools of 200


class Mmr(Rerank):
    """Next is the item with the largest λ · relevance − (1 − λ) · max cosine with an item chosen before.

    `relevance` is λ: 1 keeps the ranking, 0 looks at diversity alone. Relevance is scaled to 0…1 within a user's pool,
    so that it compares with a cosine. Of equal items the one that stood first is taken.
    """

    def __init__(self, relevance: Share = 0.7) -> None:
        if not 0 <= relevance <= 1:
            raise SettingsError(f"re-rank step mmr: relevance must lie in 0…1, got {relevance}")
        self.share = relevance

    def __call__(self, pool: Pool, facts: ItemFacts) -> Pool:
        """Return the pool in the order in which its items are chosen."""
        orders = []
        for start in range(0, len(pool.items_UP), USERS_AT_ONCE):
            items = torch.from_numpy(pool.items_UP[start : start + USERS_AT_ONCE])
            relevance = torch.from_numpy(pool.relevance_UP[start : start + USERS_AT_ONCE])
            direction_UPE = facts.directions(items.clamp(min=0))
            orders.append(self._order(_scaled(relevance), direction_UPE @ direction_UPE.mT, items == PAD))
        return pool.ordered(np.concatenate(orders)) if orders else pool

    def _order(self, relevance_UP: Tensor, cosine_UPP: Tensor, absent_UP: Tensor) -> np.ndarray:
        users, size = relevance_UP.shape
        order_UP, row_U = torch.empty(users, size, dtype=torch.int64), torch.arange(users)
        like_UP = torch.zeros_like(relevance_UP)  # largest cosine with a chosen item; of none chosen, 0
        gone_UP = torch.zeros_like(absent_UP)
        for place in range(size):
            value_UP = self.share * relevance_UP - (1 - self.share) * like_UP
            value_UP = value_UP.masked_fill(absent_UP, torch.finfo(value_UP.dtype).min)
            chosen_U = value_UP.masked_fill(gone_UP, -torch.inf).argmax(dim=1)
            order_UP[:, place] = chosen_U
            gone_UP[row_U, chosen_U] = True
            cosine_UP = cosine_UPP[row_U, chosen_U]
            like_UP = cosine_UP if place == 0 else torch.maximum(like_UP, cosine_UP)
        return order_UP.numpy()


def _scaled(relevance_UP: Tensor) -> Tensor:
    """Scale each user's relevance to 0…1; what is not there is 0."""
    there_UP = torch.isfinite(relevance_UP)
    low_U1 = relevance_UP.masked_fill(~there_UP, torch.inf).amin(dim=1, keepdim=True)
    high_U1 = relevance_UP.masked_fill(~there_UP, -torch.inf).amax(dim=1, keepdim=True)
    span_U1 = (high_U1 - low_U1).nan_to_num(0.0, 0.0, 0.0).clamp(min=torch.finfo(torch.float32).tiny)
    return ((relevance_UP - low_U1) / span_U1).masked_fill(~there_UP, 0.0)
