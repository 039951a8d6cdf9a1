"""The two contracts of a loss."""

from __future__ import annotations

import abc
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Choices:
    """What a behaviour loss sees of a step: B users, C candidates, T pairs of a user and a candidate it took."""

    scores_BC: Tensor  # float32; −10,000 where the user has the item already
    positives_BC: Tensor  # float32; what a taken candidate counts (1, or its sample weight > 0); 0 where not taken
    log_inclusion_C: Tensor  # float32; log-probability that the candidate is in this step's set (0: always)
    taken: tuple[Tensor, Tensor]  # int64 [T] users, int64 [T] candidates
    rating_T: Tensor  # float32; the interaction's weight, standardised over all of training (0: the mean)
    user_BD: Tensor
    item_CD: Tensor


class BehaviourLoss(Loss):
    """Draws users to the items they took."""

    ranks = True  # it alone teaches the scores to rank; an extra task such as ratings does not

    @abc.abstractmethod
    def forward(self, choices: Choices) -> Tensor:
        """Return a scalar; users without targets add nothing to it."""
