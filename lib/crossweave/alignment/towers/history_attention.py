"""History attention: several learned queries, each pooling its part of the history's vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.histories import Histories
from crossweave.alignment.ranges import AtLeast1, ShareBelow1


class HistoryAttention(nn.Module):
    """Multi-head additive attention over the items of a history, then a residual MLP.

    Each head weighs the items anew and pools its own slice of their vectors; the start is the plain mean.
    The queries do not depend on the target, so a user is one vector and scoring stays a matrix product
    (the pooling of Wu et al. 2019, NRMS, §2.2, with one query a head). Nor do they depend on the user: an item's
    weight before normalising is computed once, however many histories it stands in.
    """

    def __init__(self, dim: int, heads: AtLeast1 = 4, dropout: ShareBelow1 = 0.1) -> None:
        super().__init__()
        if dim % heads:
            raise TypeError(f"dim {dim} must be a multiple of heads {heads}: each head pools a slice of the vectors")
        self.heads = heads
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )
        for layer in (self.score[-1], self.mlp[-1]):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.newcomer_D = nn.Parameter(torch.zeros(dim))  # stands for a user without history

    def forward(self, item_SD: Tensor, histories: Histories) -> Tensor:
        """Return user vectors [B, D] from item vectors [S, D] and the histories that name their rows."""
        logits_SH = self.score(item_SD)
        # The softmax of a history, with one common shift: tanh bounds the logits, so none of them underflows.
        weight_SH = (logits_SH - logits_SH.detach().amax(dim=0)).exp() if len(item_SD) else logits_SH
        weighted_SD = (weight_SH[..., None] * item_SD.unflatten(1, (self.heads, -1))).flatten(1)
        sums = histories.pooled(torch.cat([weighted_SD, weight_SH], dim=1), "sum")
        pooled_BD, total_BH = sums[:, : item_SD.shape[1]], sums[:, item_SD.shape[1] :]
        mean_BHI = (
            pooled_BD.unflatten(1, (self.heads, -1)) / total_BH.clamp(min=torch.finfo(sums.dtype).tiny)[..., None]
        )
        user_BD = torch.where((histories.lengths > 0)[:, None], mean_BHI.flatten(1), self.newcomer_D)
        return user_BD + self.mlp(user_BD)
