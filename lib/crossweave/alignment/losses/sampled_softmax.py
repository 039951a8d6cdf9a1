"""Softmax over a sampled candidate set, corrected for how likely each candidate was sampled."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from crossweave.alignment.losses.base import BehaviourLoss, Choices


class SampledSoftmax(BehaviourLoss):
    """Multinomial log-likelihood of a user's targets (Liang et al. 2018, eq. 2) with the logQ correction.

    Subtracting the log-probability of inclusion makes the sampled softmax approach the full one (Bengio and
    Senécal 2008; Yi et al. 2019, eq. 3); with the whole catalog as candidates it is the full softmax.
    A user's targets weigh 1/√(their number) each: long histories count more, yet do not drown the others.
    """

    def forward(self, choices: Choices) -> Tensor:
        """Return the mean over users; users without targets add nothing."""
        positives_BC = choices.positives_BC
        log_likelihood_BC = F.log_softmax(choices.scores_BC - choices.log_inclusion_C, dim=1)
        count_B1 = positives_BC.sum(dim=1, keepdim=True).clamp(min=1.0)
        per_user_B = -(log_likelihood_BC * positives_BC / count_B1.sqrt()).sum(dim=1)
        return per_user_B.mean() / count_B1.sqrt().mean()
