"""Who the users of a batch are, beside what they took.

Shape letters: B users, A attributes, D dim of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

UNKNOWN = -1  # index of a user without a training interaction
MISSING = 0  # code of an attribute without a value


@dataclass(frozen=True)
class UserBatch:
    """Index and attributes of B users, in the order of their histories."""

    index_B: Tensor  # int64; UNKNOWN, or one of the model's users
    attributes_BA: Tensor  # int64, codes

    @classmethod
    def from_arrays(cls, index_B: np.ndarray, attributes_BA: np.ndarray) -> UserBatch:
        """Take integer arrays of any width."""
        return cls(torch.from_numpy(index_B.astype(np.int64)), torch.from_numpy(attributes_BA.astype(np.int64)))


class UserAttributes(nn.Module):
    """The sum of one learned vector an attribute value.

    All of them start at zero: training starts where it would without attributes, and a value that no trained user has
    says nothing. All attributes of a share `dropout` of the users are missing in a step, so that the model knows what
    to say of somebody who told nothing.
    """

    def __init__(self, codes: Sequence[int], dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.vectors = nn.Embedding(sum(codes), dim)
        nn.init.zeros_(self.vectors.weight)
        self.first_A: Tensor
        self.register_buffer("first_A", torch.tensor([0, *codes[:-1]]).cumsum(0), persistent=False)

    def forward(self, who: UserBatch) -> Tensor:
        """Return what the attributes add to user vectors, [B, D]."""
        codes_BA = who.attributes_BA
        if self.training and self.dropout:
            hidden_B = torch.rand(len(codes_BA), device=codes_BA.device) < self.dropout
            codes_BA = codes_BA.masked_fill(hidden_B[:, None], MISSING)
        added: Tensor = self.vectors(codes_BA + self.first_A).sum(dim=1)
        return added


class UserIds(nn.Module):
    """A learned vector a user with training interactions (Koren et al. 2009), zero for everybody else.

    A share `dropout` of the users goes without in a step, so that the rest of the model stays able to serve them.
    """

    def __init__(self, users: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.vectors = nn.Embedding(users, dim)
        nn.init.zeros_(self.vectors.weight)

    def forward(self, who: UserBatch) -> Tensor:
        """Return what the ids add to user vectors, [B, D]."""
        known_B = who.index_B != UNKNOWN
        if self.training and self.dropout:
            known_B = known_B & (torch.rand(len(known_B), device=known_B.device) >= self.dropout)
        vectors_BD: Tensor = self.vectors(who.index_B.clamp(min=0))
        return vectors_BD * known_B[:, None]
