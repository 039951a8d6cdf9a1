"""Users against the whole index: runs the user tower, and scores what is no product of two vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from crossweave.alignment.blend import Addition
from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.sides import Targets, Users
from crossweave.alignment.user_parts import UserBatch


@torch.inference_mode()
def read_users(model: AlignmentModel, history_ND: Tensor, histories: Histories, who: UserBatch) -> Users:
    """Return the users; `histories` name rows of `history_ND`, the item tower's history vectors.

    Only the items that stand in a history go through the tower, each once.
    """
    wanted_S, index_F = torch.unique(histories.index_F, return_inverse=True)
    return model.users(history_ND[wanted_S], Histories(index_F, histories.start_B), who)


def beyond_product(model: AlignmentModel, users: Users, targets: Targets) -> Addition | None:
    """Return what adds to the scores of a block of items all that the kernel's product lacks; None where it is all."""
    if model.is_product:
        return None

    def add(scores_UB: Tensor, start: int, stop: int) -> None:
        rest_UB = model.beyond_product(users, targets.take(slice(start, stop)))
        assert rest_UB is not None
        scores_UB.add_(rest_UB)

    return add
