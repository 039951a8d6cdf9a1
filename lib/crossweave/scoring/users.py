"""Runs the user tower over histories of very different lengths without padding them all to the longest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.model import AlignmentModel

POSITIONS_AT_ONCE = 65_536  # padded history positions of one call: 25 MB a 96-d float32 layer


@torch.inference_mode()
def user_vectors(model: AlignmentModel, history_ND: Tensor, histories: list[np.ndarray]) -> Tensor:
    """Return user vectors [U, D]; `histories` hold item indices, `history_ND` the item tower's history vectors."""
    lengths = np.array([len(history) for history in histories])
    order = np.argsort(lengths, kind="stable")
    vectors_UD = torch.empty(len(histories), history_ND.shape[1])
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and max(1, lengths[order[stop]]) * (stop + 1 - start) <= POSITIONS_AT_ONCE:
            stop += 1
        rows = order[start:stop]
        width = max(1, int(lengths[rows[-1]]))
        index_BL = np.zeros((len(rows), width), np.int64)
        present_BL = np.arange(width)[None, :] < lengths[rows][:, None]
        index_BL[present_BL] = np.concatenate([histories[row] for row in rows])
        history_BLD = history_ND[torch.from_numpy(index_BL)]
        vectors_UD[torch.from_numpy(rows)] = model.users(history_BLD, torch.from_numpy(present_BL))
        start = stop
    return vectors_UD
