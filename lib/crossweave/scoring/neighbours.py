"""The nearest items of items, by the scoring kernel."""

from __future__ import annotations

import numpy as np
import torch

from crossweave.scoring.topk import top_k

ITEMS_AT_ONCE = 1024


def nearest_items(item_ND: np.ndarray, start: int, stop: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k items of the largest inner product with each of the items from start to stop, itself left out.

    int64 and float32 [stop − start, k], best first; PAD and -inf where the catalog has fewer. Raises ValueError for a
    vector that is not finite.
    """
    vectors_ND = torch.from_numpy(item_ND)
    nothing_N, all_N = torch.zeros(len(item_ND)), torch.ones(len(item_ND), dtype=torch.bool)
    parts = []
    for low in range(start, stop, ITEMS_AT_ONCE):
        own = np.arange(low, min(low + ITEMS_AT_ONCE, stop))
        rows = vectors_ND[low : low + len(own)]
        parts.append(top_k(rows, vectors_ND, nothing_N, k, allowed_N=all_N, masked=list(own[:, None])))
    if not parts:
        return np.empty((0, k), np.int64), np.empty((0, k), np.float32)
    return np.concatenate([part.items_UK for part in parts]), np.concatenate([part.scores_UK for part in parts])
