"""Bayesian personalised ranking."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crossweave.alignment.losses.base import BehaviourLoss, Choices


class Bpr(BehaviourLoss):
    """−log σ(s⁺ − s⁻) (Rendle et al. 2009, §4.1) over every (target, other candidate) pair of a user.

    Each user weighs the same. A candidate is a negative with the weight 1 / its probability of inclusion, so that
    sampled negatives stand for the whole catalog.
    """

    def forward(self, choices: Choices) -> Tensor:
        """Return the mean over users with targets; the others add nothing."""
        scores_BC, positives_BC = choices.scores_BC, choices.positives_BC
        user_T, item_T = positives_BC.nonzero(as_tuple=True)
        if not len(user_T):
            return 0.0 * scores_BC.sum()
        weight_BC = (positives_BC == 0) * (-choices.log_inclusion_C).exp()
        weight_BC = weight_BC / weight_BC.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight_BC.dtype).tiny)
        lead_TC = scores_BC[user_T, item_T][:, None] - scores_BC[user_T]
        per_target_T = (-F.logsigmoid(lead_TC) * weight_BC[user_T]).sum(dim=1) * positives_BC[user_T, item_T]
        total_B = positives_BC.sum(dim=1)
        return (per_target_T / total_B[user_T]).sum() / total_B.count_nonzero()
