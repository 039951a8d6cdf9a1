"""Exact top-K of a blocked matrix product, with masks applied before the cut.

Shape letters: U users, N items, D dim, K top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PAD = -1


@dataclass(frozen=True)
class TopK:
    """The best items of each user, best first; PAD and -inf where fewer than K may be recommended."""

    items_UK: np.ndarray  # int64, item index
    scores_UK: np.ndarray  # float32


def top_k(
    user_UD: Tensor,
    item_ND: Tensor,
    bias_N: Tensor,
    k: int,
    *,
    allowed_N: Tensor,
    masked: list[np.ndarray],
    block_items: int = 16384,
    addition: Callable[[Tensor, int, int], None] | None = None,
) -> TopK:
    """Return the K best of score = user · item + bias for every user.

    `addition(scores_UB, start, stop)` adds another model's scores of a block of items in place.

    `allowed_N` (bool) says which items may be recommended at all, `masked[u]` which of them not to user u. Exact;
    ties go to the smaller item index; memory is bounded by U × block_items whatever N. Raises ValueError for a
    vector that is not finite: a NaN would silently win or lose every comparison.
    """
    for name, values in (("user", user_UD), ("item", item_ND), ("bias", bias_N)):
        if not torch.isfinite(values).all():
            raise ValueError(f"a {name} vector holds NaN or infinity; nothing was scored")
    users, items = len(user_UD), len(item_ND)
    best_items = np.full((users, k), PAD, np.int64)
    best_scores = np.full((users, k), -np.inf, np.float32)
    owners = np.repeat(np.arange(users), [len(row) for row in masked])
    hidden = np.concatenate([np.asarray(row, np.int64) for row in masked]) if masked else np.zeros(0, np.int64)
    order = np.argsort(hidden, kind="stable")
    owners, hidden = owners[order], hidden[order]
    # One buffer for all blocks: allocating a new one costs as much as the product itself.
    buffer = torch.empty(users, min(block_items, max(items, 1)), dtype=user_UD.dtype, device=user_UD.device)
    for start in range(0, items, block_items):
        stop = min(start + block_items, items)
        scores = buffer[:, : stop - start] if stop - start == buffer.shape[1] else buffer.new_empty(users, stop - start)
        torch.addmm(bias_N[start:stop], user_UD, item_ND[start:stop].T, out=scores)
        if addition is not None:
            addition(scores, start, stop)
        scores.masked_fill_(~allowed_N[start:stop], -torch.inf)
        low, high = np.searchsorted(hidden, [start, stop])
        scores[torch.from_numpy(owners[low:high]), torch.from_numpy(hidden[low:high] - start)] = -torch.inf
        block_scores, block_items_ = _best_of_block(scores, k)
        best_scores, best_items = _merge(best_scores, best_items, block_scores, block_items_ + start, k)
    best_items[np.isneginf(best_scores)] = PAD
    return TopK(best_items, best_scores)


def _best_of_block(scores_UB: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the K best of a block; where the K-th and the next are equal, the smaller positions win."""
    width = scores_UB.shape[1]
    if width <= k:
        values, places = scores_UB.cpu().numpy(), np.broadcast_to(np.arange(width), scores_UB.shape)
        return values.copy(), places.copy()
    top = scores_UB.topk(k + 1, dim=1)
    values, places = top.values.cpu().numpy(), top.indices.cpu().numpy()
    tied = np.flatnonzero((values[:, k - 1] == values[:, k]) & ~np.isneginf(values[:, k]))
    values, places = values[:, :k].copy(), places[:, :k].copy()
    for row in tied:  # torch.topk picks any of the tied ones
        full = scores_UB[row].cpu().numpy()
        winners = np.argsort(-full, kind="stable")[:k]
        values[row], places[row] = full[winners], winners
    return values, places


def _merge(
    scores_a: np.ndarray, items_a: np.ndarray, scores_b: np.ndarray, items_b: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the K best of two candidate lists, by score, then by the smaller item index."""
    scores, items = np.concatenate([scores_a, scores_b], 1), np.concatenate([items_a, items_b], 1)
    order = np.lexsort((items, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(items, order, 1)
