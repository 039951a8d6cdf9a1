"""Concatenation: one layer over all tokens laid side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConcatFusion(nn.Module):
    """tanh(W [x₁; …; x_M] + b): early fusion (Ngiam et al. 2011, §3); a learned token stands for a missing one."""

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()
        self.missing_MD = nn.Parameter(torch.zeros(modalities, dim))
        self.layer = nn.Linear(modalities * dim, dim)

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return content vectors [B, D] from tokens [B, M, D] and their boolean mask [B, M]."""
        filled_BMD = torch.where(present_BM[..., None], tokens_BMD, self.missing_MD)
        return torch.tanh(self.layer(filled_BMD.flatten(1)))
