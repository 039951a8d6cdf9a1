"""Gated fusion: for every number of the vector, how far each modality may speak."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """Σ zₘ ⊙ tanh(Wₘ xₘ), zₘ = σ(Vₘ [x₁; …; x_M]): the gated multimodal unit (Arevalo et al. 2017, eq. 1).

    A gate sees all modalities, so that one can be silenced by what another says; a missing one is zero and silent.
    """

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()
        self.value_MDD = nn.Parameter(torch.empty(modalities, dim, dim))
        nn.init.xavier_uniform_(self.value_MDD)
        self.gate = nn.Linear(modalities * dim, modalities * dim)
        self.nothing_D = nn.Parameter(torch.zeros(dim))  # stands for an item without any modality

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return content vectors [B, D] from tokens [B, M, D] and their boolean mask [B, M]."""
        seen_BMD = tokens_BMD.masked_fill(~present_BM[..., None], 0.0)
        values_BMD = torch.tanh(torch.einsum("bmd,mde->bme", seen_BMD, self.value_MDD))
        gates_BMD = torch.sigmoid(self.gate(seen_BMD.flatten(1))).view_as(seen_BMD)
        fused_BD = (gates_BMD * values_BMD * present_BM[..., None]).sum(dim=1)
        return torch.where(present_BM.any(dim=1, keepdim=True), fused_BD, self.nothing_D)
