"""What towers share that read a history as a sequence."""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn

from crossweave.alignment.histories import Histories


class SequenceTower(nn.Module, abc.ABC):
    """The newest `limit` items of a history: their mean, and what a subclass reads from their order.

    A user starts as the mean, which also keeps what the sequence model forgets; a newcomer is a learned vector.
    """

    def __init__(self, dim: int, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.newcomer_D = nn.Parameter(torch.zeros(dim))

    def forward(self, item_SD: Tensor, histories: Histories) -> Tensor:
        """Return user vectors [B, D] from item vectors [S, D] and the histories that name their rows, oldest first."""
        has_B = histories.lengths > 0
        user_BD = self.newcomer_D.expand(len(has_B), -1)
        if not has_B.any():
            return user_BD
        index_XL, length_X = histories.padded(self.limit, has_B)
        steps_XLD = item_SD[index_XL]
        mask_XL = torch.arange(index_XL.shape[1], device=index_XL.device) < length_X[:, None]
        mean_XD = (steps_XLD * mask_XL[..., None]).sum(dim=1) / length_X[:, None]
        return user_BD.masked_scatter(has_B[:, None], mean_XD + self.out(self._read(steps_XLD, length_X)))

    @abc.abstractmethod
    def _read(self, steps_XLD: Tensor, length_X: Tensor) -> Tensor:
        """Return [X, D] of sequences [X, L, D], of which the first `length_X` (≥ 1) places count."""
