"""Bilinear fusion: what pairs of modalities say together."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from crossweave.alignment.ranges import AtLeast1


class BilinearFusion(nn.Module):
    """Mean of the tokens' own projections, and of every pair's low-rank bilinear product.

    A pair gives P tanh(U xₘ ⊙ V xₙ) (Kim et al. 2017, eq. 5), here with one U, V and P for all pairs and a learned
    vector a modality before them, so that the parameters do not grow with the pairs. Both means are over what the
    item has.
    """

    def __init__(self, dim: int, modalities: int, rank: AtLeast1 = 64) -> None:
        super().__init__()
        self.modality_MD = nn.Parameter(torch.randn(modalities, dim) * dim**-0.5)
        self.own = nn.Linear(dim, dim)
        self.left, self.right = nn.Linear(dim, rank), nn.Linear(dim, rank)
        self.joint = nn.Linear(rank, dim)
        self.nothing_D = nn.Parameter(torch.zeros(dim))  # stands for an item without any modality
        pairs = list(itertools.combinations(range(modalities), 2))
        self.first_P, self.second_P = [m for m, _ in pairs], [n for _, n in pairs]

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return content vectors [B, D] from tokens [B, M, D] and their boolean mask [B, M]."""
        seen_BMD = tokens_BMD.masked_fill(~present_BM[..., None], 0.0)
        marked_BMD = seen_BMD + self.modality_MD
        own_BD = _mean(self.own(seen_BMD), present_BM)
        left_BPR, right_BPR = self.left(marked_BMD)[:, self.first_P], self.right(marked_BMD)[:, self.second_P]
        both_BP = present_BM[:, self.first_P] & present_BM[:, self.second_P]
        pairs_BD = _mean(self.joint(torch.tanh(left_BPR * right_BPR)), both_BP)
        return torch.where(present_BM.any(dim=1, keepdim=True), own_BD + pairs_BD, self.nothing_D)


def _mean(values_BXD: Tensor, present_BX: Tensor) -> Tensor:
    """Mean over the present ones [B, D]; zero where none is."""
    kept_BXD = values_BXD * present_BX[..., None]
    return kept_BXD.sum(dim=1) / present_BX.sum(dim=1, keepdim=True).clamp(min=1)
