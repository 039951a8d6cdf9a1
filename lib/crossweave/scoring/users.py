"""Runs the user tower over histories that name items of the whole index."""

from __future__ import annotations

import torch
from torch import Tensor

from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel


@torch.inference_mode()
def user_vectors(model: AlignmentModel, history_ND: Tensor, histories: Histories) -> Tensor:
    """Return user vectors [U, D]; `histories` name rows of `history_ND`, the item tower's history vectors.

    Only the items that stand in a history go through the tower, each once.
    """
    wanted_S, index_F = torch.unique(histories.index_F, return_inverse=True)
    return model.users(history_ND[wanted_S], Histories(index_F, histories.start_B))
