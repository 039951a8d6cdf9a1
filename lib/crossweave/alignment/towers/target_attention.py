"""Target attention: which items of a history matter depends on the item in question."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.attention import Attention, TargetAware
from crossweave.alignment.histories import Histories
from crossweave.alignment.ranges import AtLeast1


class TargetAttention(TargetAware):
    """The newest `limit` items of a history, weighed by softmax(tₙ · k_l / √D) for each target n.

    After the deep interest network (Zhou et al. 2018, eq. 3), with scaled dot products (Vaswani et al. 2017, eq. 1)
    in place of its activation unit; a query's own matrix would only repeat that of the keys. The start is the mean.
    """

    def __init__(self, dim: int, limit: AtLeast1 = 100) -> None:
        super().__init__()
        self.limit = limit
        self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for layer in (self.key, self.value):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.newcomer_D = nn.Parameter(torch.zeros(dim))  # stands for a user without history

    def forward(self, item_SD: Tensor, histories: Histories) -> tuple[Tensor, Attention]:
        """Return the newcomer where a history is empty, zeros elsewhere: [B, D], and the attention."""
        alone_BD = (histories.lengths == 0)[:, None] * self.newcomer_D
        key_SD = self.key(item_SD) * item_SD.shape[1] ** -0.5
        return alone_BD, Attention(key_SD, item_SD + self.value(item_SD), histories.newest(self.limit))
