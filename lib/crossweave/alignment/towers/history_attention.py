"""History attention: several learned queries, each pooling the user's history."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HistoryAttention(nn.Module):
    """Multi-head additive attention over the items of a history, then a residual MLP.

    The queries do not depend on the target, so a user is one vector and scoring stays a matrix product
    (the pooling of Wu et al. 2019, NRMS, §2.2, with one query a head).
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, heads))
        self.mix = nn.Linear(heads * dim, dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )
        self.newcomer_D = nn.Parameter(torch.zeros(dim))  # stands for a user without history

    def forward(self, history_BLD: Tensor, present_BL: Tensor) -> Tensor:
        """Return user vectors [B, D] from item vectors [B, L, D] and their boolean mask [B, L]."""
        logits_BLH = self.score(history_BLD)
        logits_BLH = logits_BLH.masked_fill(~present_BL[..., None], torch.finfo(logits_BLH.dtype).min)
        weights_BLH = logits_BLH.softmax(dim=1) * present_BL[..., None]
        pooled_BD = self.mix(torch.einsum("blh,bld->bhd", weights_BLH, history_BLD).flatten(1))
        user_BD = torch.where(present_BL.any(dim=1, keepdim=True), pooled_BD, self.newcomer_D)
        return user_BD + self.mlp(user_BD)
