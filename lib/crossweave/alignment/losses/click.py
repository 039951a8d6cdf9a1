"""Pointwise clicks: is this candidate one that the user took?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.losses.base import BehaviourLoss


class Click(BehaviourLoss):
    """Binary cross-entropy of σ(a s + b), a and b learned, against taken or not: an extra task beside ranking.

    Negatives weigh 1 / their probability of inclusion, and all of a user's negatives together as much as all of its
    targets: without that, the few targets drown (the imbalance that He et al. 2017, §3.3, sample against).
    """

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__(dim, modalities)
        self.scale = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, scores_BC: Tensor, positives_BC: Tensor, log_inclusion_C: Tensor) -> Tensor:
        """Return the mean over users with targets; the others add nothing."""
        taken_BC = positives_BC.clamp(max=1.0)
        has_B = taken_BC.any(dim=1)
        logits_BC = self.scale * scores_BC.clamp(min=-50.0) + self.shift  # masked scores are −10,000: no logit is that
        other_BC = (1.0 - taken_BC) * (-log_inclusion_C).exp()
        loss = _balanced(F.softplus(-logits_BC), taken_BC) + _balanced(F.softplus(logits_BC), other_BC)
        return (loss * has_B).sum() / has_B.sum().clamp(min=1)


def _balanced(loss_BC: Tensor, weight_BC: Tensor) -> Tensor:
    """Weighted mean a user [B]; 0 without weights."""
    total_B = weight_BC.sum(dim=1).clamp(min=torch.finfo(weight_BC.dtype).tiny)
    return (loss_BC * weight_BC).sum(dim=1) / total_B
