"""Weighted sum: one learned weight a modality, the same for every item."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.fusions.pooling import weighted_tokens


class WeightedFusion(nn.Module):
    """Σ αₘ xₘ with α = softmax of learned logits over the modalities that an item has.

    The simplest fusion that learns which modality to trust; attention makes the weights a matter of the item.
    """

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()
        self.logit_M = nn.Parameter(torch.zeros(modalities))
        self.nothing_D = nn.Parameter(torch.zeros(dim))  # stands for an item without any modality

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return content vectors [B, D] from tokens [B, M, D] and their boolean mask [B, M]."""
        return weighted_tokens(self.logit_M.expand_as(present_BM), tokens_BMD, present_BM, self.nothing_D)
