"""Runs the user tower over histories that name items of the whole index."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel


@torch.inference_mode()
def user_vectors(model: AlignmentModel, history_ND: Tensor, histories: list[np.ndarray]) -> Tensor:
    """Return user vectors [U, D]; `histories` hold item indices, `history_ND` the item tower's history vectors.

    Only the items that stand in a history go through the tower, each once.
    """
    flat = Histories.from_lists(histories)
    wanted_S, index_F = torch.unique(flat.index_F, return_inverse=True)
    return model.users(history_ND[wanted_S], Histories(index_F, flat.start_B))
