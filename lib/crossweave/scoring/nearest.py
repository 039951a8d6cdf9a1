"""The items of a user's history that are nearest to a recommended item.

Shape letters: C items named, E dim of the head's product, L history of one user, N items, R pairs.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossweave.alignment.histories import Histories

NONE = -1


def nearest_in_history(
    item_NE: Tensor, center_E: Tensor, histories: Histories, user_R: np.ndarray, item_R: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` items of each pair's history that are nearest to its item, nearest first, and their cosines.

    int64 [R, C], NONE where the history is shorter, and float32 [R, C]. `user_R` are places in `histories`. The
    vectors are those of the items as recommendations, less their mean `center_E`: what all items share changes no
    ranking by an inner product. Of equally near items the one of the smaller index comes first.
    """
    items_RC = np.full((len(user_R), count), NONE, np.int64)
    cosines_RC = np.zeros((len(user_R), count), np.float32)
    ends_B = histories.start_B + histories.lengths
    for user in np.unique(user_R):
        own_L = torch.unique(histories.index_F[histories.start_B[user] : ends_B[user]])  # in rising order
        pairs = np.flatnonzero(user_R == user)
        wanted = torch.from_numpy(item_R[pairs])
        past_LE, new_PE = (F.normalize(item_NE[index] - center_E, dim=1) for index in (own_L, wanted))
        cosine_PL = new_PE @ past_LE.T
        near_PC = cosine_PL.argsort(dim=1, descending=True, stable=True)[:, :count]
        found = near_PC.shape[1]
        items_RC[pairs, :found] = own_L[near_PC].numpy()
        cosines_RC[pairs, :found] = cosine_PL.gather(1, near_PC).numpy()
    return items_RC, cosines_RC
