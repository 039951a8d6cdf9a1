"""Id: a user is a learned vector, whatever the history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.histories import Histories


class Id(nn.Module):
    """The newcomer's vector for everybody; the model adds the vectors of ids (matrix factorisation) and attributes.

    So a user whom training did not know is a newcomer, and what the users share is learned once (Koren et al. 2009).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.newcomer_D = nn.Parameter(torch.zeros(dim))

    def forward(self, item_SD: Tensor, histories: Histories) -> Tensor:
        """Return user vectors [B, D], all the same."""
        return self.newcomer_D.expand(len(histories.start_B), -1)
