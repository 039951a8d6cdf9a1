"""Recurrent towers: a history read from its oldest item to its newest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from crossweave.alignment.histories import Histories


class Recurrent(nn.Module):
    """The last state of a recurrent network over the newest `limit` items, added to the history's mean.

    GRU4Rec's user (Hidasi et al. 2016, §3.1); the mean beside it keeps what the network forgets.
    """

    cell: type[nn.GRU] | type[nn.LSTM]

    def __init__(self, dim: int, limit: int = 100) -> None:
        super().__init__()
        self.limit = limit
        self.network = self.cell(dim, dim, batch_first=True)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)  # a user starts as the mean
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
        mask_XL1 = (torch.arange(index_XL.shape[1], device=index_XL.device) < length_X[:, None])[..., None]
        mean_XD = (steps_XLD * mask_XL1).sum(dim=1) / length_X[:, None]
        packed = pack_padded_sequence(steps_XLD, length_X.cpu(), batch_first=True, enforce_sorted=False)
        state = self.network(packed)[1]
        last_XD = (state[0] if isinstance(state, tuple) else state)[-1]
        return user_BD.masked_scatter(has_B[:, None], mean_XD + self.out(last_XD))


class Gru(Recurrent):
    """Gated recurrent units (Cho et al. 2014)."""

    cell = nn.GRU


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    cell = nn.LSTM
