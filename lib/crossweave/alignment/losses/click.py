"""Pointwise clicks: is this candidate one that the user took?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.losses.base import BehaviourLoss, Choices


class Click(BehaviourLoss):
    """Binary cross-entropy of σ(a s + b), a and b learned, against taken or not: an extra task beside ranking.

    Negatives weigh 1 / their probability of inclusion, and all of a user's negatives together as much as all of its
    targets: without that, the few targets drown (the imbalance that He et al. 2017, §3.3, sample against).
    """

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__(dim, modalities)
        self.scale = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def logits(self, scores: Tensor) -> Tensor:
        """Return a s + b, in the shape of the scores."""
        return self.scale * scores + self.shift

    def probability(self, scores: Tensor) -> Tensor:
        """Return the probability that these were taken, among as many of the user's that were as were not."""
        return torch.sigmoid(self.logits(scores))

    def forward(self, choices: Choices) -> Tensor:
        """Return the mean over users with targets; the others add nothing."""
        taken_BC = choices.positives_BC
        has_B = taken_BC.any(dim=1)
        scores_BC = choices.scores_BC.clamp(min=-50.0)  # masked ones are −10,000: no logit is that
        logits_BC = self.logits(scores_BC)
        other_BC = (taken_BC == 0) * (-choices.log_inclusion_C).exp()
        loss = _balanced(F.softplus(-logits_BC), taken_BC) + _balanced(F.softplus(logits_BC), other_BC)
        return (loss * has_B).sum() / has_B.sum().clamp(min=1)


def _balanced(loss_BC: Tensor, weight_BC: Tensor) -> Tensor:
    """Weighted mean a user [B]; 0 without weights."""
    total_B = weight_BC.sum(dim=1).clamp(min=torch.finfo(weight_BC.dtype).tiny)
    return (loss_BC * weight_BC).sum(dim=1) / total_B
