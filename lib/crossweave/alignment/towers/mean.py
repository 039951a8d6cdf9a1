"""Mean: a user is the middle of the history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.histories import Histories


class Mean(nn.Module):
    """The mean of a history's item vectors, a learned vector for a newcomer: the baseline of every other tower."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.newcomer_D = nn.Parameter(torch.zeros(dim))

    def forward(self, item_SD: Tensor, histories: Histories) -> Tensor:
        """Return user vectors [B, D] from item vectors [S, D] and the histories that name their rows."""
        mean_BD = histories.pooled(item_SD, "mean")
        return torch.where((histories.lengths > 0)[:, None], mean_BD, self.newcomer_D)
