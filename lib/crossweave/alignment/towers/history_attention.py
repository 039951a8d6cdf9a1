"""History attention: several learned queries, each pooling the user's history."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.histories import Histories


class HistoryAttention(nn.Module):
    """Multi-head additive attention over the items of a history, then a residual MLP.

    The queries do not depend on the target, so a user is one vector and scoring stays a matrix product
    (the pooling of Wu et al. 2019, NRMS, §2.2, with one query a head). Nor do they depend on the user: an item's
    weight before normalising is computed once, however many histories it stands in.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, heads))
        self.mix = nn.Linear(heads * dim, dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )
        self.newcomer_D = nn.Parameter(torch.zeros(dim))  # stands for a user without history

    def forward(self, item_SD: Tensor, histories: Histories) -> Tensor:
        """Return user vectors [B, D] from item vectors [S, D] and the histories that name their rows."""
        logits_SH = self.score(item_SD)
        # The softmax of a history, with one common shift: tanh bounds the logits, so none of them underflows.
        weight_SH = (logits_SH - logits_SH.detach().amax(dim=0)).exp() if len(item_SD) else logits_SH
        pooled = [_weighted_mean(weight_S1, item_SD, histories) for weight_S1 in weight_SH.split(1, dim=1)]
        some_B1 = (histories.lengths > 0)[:, None]
        user_BD = torch.where(some_B1, self.mix(torch.cat(pooled, dim=1)), self.newcomer_D)
        return user_BD + self.mlp(user_BD)


def _weighted_mean(weight_S1: Tensor, item_SD: Tensor, histories: Histories) -> Tensor:
    """Return the weighted mean [B, D] of each history; zeros for an empty one."""
    both = torch.cat([weight_S1 * item_SD, weight_S1], dim=1)
    sums = F.embedding_bag(histories.index_F, both, histories.start_B, mode="sum")
    return sums[:, :-1] / sums[:, -1:].clamp(min=torch.finfo(sums.dtype).tiny)
