"""Multi-layer perceptron on the pair, beside the inner product."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crossweave.alignment.blocks import MOST_NUMBERS, recomputed
from crossweave.alignment.heads.base import Head
from crossweave.alignment.ranges import AtLeast1


class Mlp(Head):
    """s = u · t + f(relu(W_u u + W_t t [+ W_p (u ⊙ t)] + c)) + b: NeuMF on one pair of vectors (He et al. 2017, §3.4).

    It starts as the inner product, which an MLP alone hardly learns (Rendle et al. 2020). The first layer is computed
    a side at a time, so no pair of vectors is ever laid side by side; memory is bounded by blocks of pairs.
    """

    product = False

    def __init__(self, dim: int, hidden: Sequence[AtLeast1] = (64,), with_product: bool = False) -> None:
        super().__init__(dim)
        if not hidden:
            raise TypeError("hidden names the units of at least one layer")
        self.of_user, self.of_item = nn.Linear(dim, hidden[0]), nn.Linear(dim, hidden[0], bias=False)
        self.of_product = nn.Linear(dim, hidden[0], bias=False) if with_product else None
        self.further = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(hidden))
        self.last = nn.Linear(hidden[-1], 1, bias=False)
        nn.init.zeros_(self.last.weight)
        self._widest = max(hidden)

    def pairs(self, user_BE: Tensor, item_SE: Tensor) -> Tensor:
        """Return f of every pair [B, S], a block of pairs at a time."""
        columns = []
        for item_CD in item_SE.split(max(1, MOST_NUMBERS // self._widest)):
            rows = max(1, MOST_NUMBERS // (self._widest * max(1, len(item_CD))))
            columns.append(torch.cat([recomputed(self._block, user_AD, item_CD) for user_AD in user_BE.split(rows)]))
        return torch.cat(columns, dim=1)

    def _block(self, user_AD: Tensor, item_CD: Tensor) -> Tensor:
        units_ACH = self.of_user(user_AD)[:, None] + self.of_item(item_CD)
        if self.of_product is not None:
            # W_p (u ⊙ t) = (W_p diag u) t: a matrix of its own for each user, and no product of vectors.
            units_ACH = units_ACH + item_CD @ (user_AD[:, :, None] * self.of_product.weight.T)
        units_ACH = units_ACH.relu_()
        for layer in self.further:
            units_ACH = layer(units_ACH).relu_()
        scores_AC: Tensor = self.last(units_ACH).squeeze(2)
        return scores_AC
