"""Causal transformer: every item of a history looks at those before it; the newest one's state is the user."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.ranges import AtLeast1, ShareBelow1
from crossweave.alignment.towers.sequence import SequenceTower


class CausalTransformer(SequenceTower):
    """SASRec's self-attention blocks (Kang & McAuley 2018, §III).

    Positions count back from the newest item, so that a longer history does not shift the meaning of "just now".
    """

    def __init__(
        self, dim: int, limit: AtLeast1 = 100, layers: AtLeast1 = 1, heads: AtLeast1 = 4, dropout: ShareBelow1 = 0.1
    ) -> None:
        if dim % heads:
            raise TypeError(f"dim {dim} must be a multiple of heads {heads}")
        super().__init__(dim, limit)
        self.position_LD = nn.Parameter(torch.randn(limit, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)

    def _read(self, steps_XLD: Tensor, length_X: Tensor) -> Tensor:
        place_L = torch.arange(steps_XLD.shape[1], device=steps_XLD.device)
        back_XL = (length_X[:, None] - 1 - place_L).clamp(min=0)
        later_LL = place_L[None, :] > place_L[:, None]
        # A padding place sees itself and all before it: finite, and nobody looks at it.
        states_XLD: Tensor = self.blocks(steps_XLD + self.position_LD[back_XL], mask=later_LL)
        return states_XLD[torch.arange(len(length_X), device=steps_XLD.device), length_X - 1]
