"""The three contracts of a loss."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class Loss(nn.Module, abc.ABC):
    """What all kinds share: they are built with the model's width and the number of its modalities."""

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()


class Peers(Protocol):
    """The ranks of a training, as a loss sees them."""

    size: int

    def gather(self, rows_BX: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all ranks, rank after rank, and where this rank's begin.

        All ranks must call it together, each with as many rows as it likes. Back to a row flows the sum of the
        gradients that it got on all ranks.
        """


class Alone:
    """A rank without peers."""

    size = 1

    def gather(self, rows_BX: Tensor) -> tuple[Tensor, int]:
        """Return the rows as they are."""
        return rows_BX, 0


class AlignmentLoss(Loss):
    """Draws the modality tokens of one item together."""

    falls = True  # as the tokens are drawn together; an adversary's value rises
    peers: Peers = Alone()

    @abc.abstractmethod
    def forward(self, tokens_BMD: Tensor, present_BM: Tensor, index_B: Tensor) -> Tensor:
        """Return a scalar from unit-norm tokens [B, M, D] and their boolean mask [B, M].

        `index_B` (int64) says which items they are: each once here, yet perhaps on other ranks too.
        """


class ContentLoss(Loss):
    """Draws an item's content to what a teacher learned of the item from behaviour."""

    teacher: Mapping[str, Any]  # settings of the teacher's fit
    teacher_NT: Tensor

    def teach(self, teacher_NT: Tensor) -> None:
        """Take the teacher's rows by item index, float32; zero for items that it does not know. They are not saved."""
        self.register_buffer("teacher_NT", teacher_NT, persistent=False)

    @abc.abstractmethod
    def forward(self, content_SD: Tensor, index_S: Tensor) -> Tensor:
        """Return a scalar from what the item tower makes of S items' content alone, and which items they are."""


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
