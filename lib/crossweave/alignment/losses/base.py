"""The two contracts of a loss."""

from __future__ import annotations

import abc

from torch import Tensor, nn


class Loss(nn.Module, abc.ABC):
    """What both kinds share: they are built with the model's width and the number of its modalities."""

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()


class AlignmentLoss(Loss):
    """Draws the modality tokens of one item together."""

    falls = True  # as the tokens are drawn together; an adversary's value rises

    @abc.abstractmethod
    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return a scalar from unit-norm tokens [B, M, D] and their boolean mask [B, M]."""


def in_company(present_BM: Tensor) -> Tensor:
    """Return the mask [B, M] of the tokens whose item has another one to be aligned with."""
    return present_BM & (present_BM.sum(dim=1, keepdim=True) > 1)


class BehaviourLoss(Loss):
    """Draws users to the items they took."""

    @abc.abstractmethod
    def forward(self, scores_BC: Tensor, positives_BC: Tensor, log_inclusion_C: Tensor) -> Tensor:
        """Return a scalar from scores of B users and C candidates.

        `positives_BC` is 1 where the user took the candidate; `log_inclusion_C` is the log-probability with which
        each candidate came into this batch's candidate set (0: it is always there).
        """
