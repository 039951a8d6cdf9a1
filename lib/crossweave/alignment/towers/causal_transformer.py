"""Causal transformer: every item of a history looks at those before it; the newest one's state is the user."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.histories import Histories


class CausalTransformer(nn.Module):
    """SASRec's self-attention blocks (Kang & McAuley 2018, §III) over the newest `limit` items, and the mean beside.

    Positions count back from the newest item, so that a longer history does not shift the meaning of "just now".
    """

    def __init__(self, dim: int, limit: int = 100, layers: int = 1, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        if dim % heads:
            raise TypeError(f"dim {dim} must be a multiple of heads {heads}")
        self.limit = limit
        self.position_LD = nn.Parameter(torch.randn(limit, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)
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
        place_L = torch.arange(index_XL.shape[1], device=index_XL.device)
        mask_XL = place_L < length_X[:, None]
        steps_XLD = item_SD[index_XL]
        mean_XD = (steps_XLD * mask_XL[..., None]).sum(dim=1) / length_X[:, None]
        back_XL = (length_X[:, None] - 1 - place_L).clamp(min=0)
        later_LL = place_L[None, :] > place_L[:, None]
        # A padding place sees itself and all before it: finite, and nobody looks at it.
        states_XLD = self.blocks(steps_XLD + self.position_LD[back_XL], mask=later_LL)
        newest_XD = states_XLD[torch.arange(len(length_X), device=index_XL.device), length_X - 1]
        return user_BD.masked_scatter(has_B[:, None], mean_XD + self.out(newest_XD))
