"""Users who depend on the target: every target weighs the items of a history anew."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.blocks import MOST_NUMBERS, recomputed
from crossweave.alignment.histories import Histories

LARGEST_LOGIT = 10.0  # softly: what the exponentials of a history sum up to stays far from the limits of float32


@dataclass(frozen=True)
class Attention:
    """Adds Σ_l softmax_l(q_n · k_l) (v_l · t_n) to the score of a user with history items l and a target n.

    Keys and values belong to items, not to users: both products are computed once for all the histories that an item
    stands in, and a user's softmax is a quotient of two sums over the rows of those products.
    """

    key_SD: Tensor  # of the S items that the histories name; scaled
    value_SE: Tensor  # the head's user side of the values
    histories: Histories

    def through(self, users: Callable[[Tensor], Tensor]) -> Attention:
        """Return the same attention with a head's user side laid over the values."""
        return replace(self, value_SE=users(self.value_SE))

    def uniform(self) -> Tensor:
        """Return the mean of each history's values [B, E], zero for an empty one: users whatever the target."""
        return self.histories.pooled(self.value_SE, "mean")

    def part(self, start: int, stop: int) -> Attention:
        """Return that of the users from start to stop."""
        return replace(self, histories=self.histories.part(start, stop))

    def block(self, query_CD: Tensor, item_CE: Tensor) -> Tensor:
        """Return the sums [B, C], zero for an empty history; memory is bounded whatever B and C."""
        used_X, index_F = torch.unique(self.histories.index_F, return_inverse=True)
        key_XD, value_XE = self.key_SD[used_X], self.value_SE[used_X]
        width = max(1, MOST_NUMBERS // max(1, len(used_X)))
        parts = [
            recomputed(_mix, key_XD, value_XE, index_F, self.histories.start_B, *some)
            for some in zip(query_CD.split(width), item_CE.split(width), strict=True)
        ]
        return torch.cat(parts, dim=1)


class TargetAware(nn.Module, abc.ABC):
    """A user tower whose users depend on the target."""

    @abc.abstractmethod
    def forward(self, item_SD: Tensor, histories: Histories) -> tuple[Tensor, Attention]:
        """Return [B, D], what of a user does not depend on the target, and the attention that gives the rest."""


def _mix(
    key_XD: Tensor, value_XE: Tensor, index_F: Tensor, start_B: Tensor, query_CD: Tensor, item_CE: Tensor
) -> Tensor:
    logit_XC = LARGEST_LOGIT * torch.tanh(key_XD @ query_CD.T / LARGEST_LOGIT)
    weight_XC = logit_XC.float().exp()  # half precision holds the exponentials, not their sums
    both = torch.cat([weight_XC * (value_XE @ item_CE.T), weight_XC], dim=1)
    mixed_BC, total_BC = F.embedding_bag(index_F, both, start_B, mode="sum").chunk(2, dim=1)
    return mixed_BC / total_BC.clamp(min=torch.finfo(total_BC.dtype).tiny)
