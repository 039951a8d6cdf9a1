"""Recurrent towers: a history read from its oldest item to its newest."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from crossweave.alignment.ranges import AtLeast1
from crossweave.alignment.towers.sequence import SequenceTower


class Recurrent(SequenceTower):
    """The last state of a recurrent network: GRU4Rec's user (Hidasi et al. 2016, §3.1)."""

    cell: type[nn.GRU] | type[nn.LSTM]

    def __init__(self, dim: int, limit: AtLeast1 = 100) -> None:
        super().__init__(dim, limit)
        self.network = self.cell(dim, dim, batch_first=True)

    def _read(self, steps_XLD: Tensor, length_X: Tensor) -> Tensor:
        packed = pack_padded_sequence(steps_XLD, length_X.cpu(), batch_first=True, enforce_sorted=False)
        state = self.network(packed)[1]
        last_XD: Tensor = (state[0] if isinstance(state, tuple) else state)[-1]
        return last_XD


class Gru(Recurrent):
    """Gated recurrent units (Cho et al. 2014)."""

    cell = nn.GRU


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    cell = nn.LSTM
