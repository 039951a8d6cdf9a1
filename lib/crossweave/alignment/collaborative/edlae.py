"""EDLAE: a linear autoencoder of histories that may not use an item to predict itself."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags

from crossweave.alignment.balance import balanced
from crossweave.alignment.collaborative.item_item import ItemItem
from crossweave.alignment.memory import check_memory
from crossweave.alignment.ranges import Above0, AtLeast0, AtLeast1, Share, ShareBelow1

SOLVED_AT_ONCE = 64


class Edlae(ItemItem):
    """argmin over B, diag(B) = 0, of ‖W(X − XB)‖² + tr BᵀΛB with Λ = p/(1−p) diag(XᵀW²X) + λI (Steck 2020, eq. 9).

    With P = (XᵀW²X + Λ)⁻¹ it is B = I − P / diag(P). λ = `l2` × the mean weight of an item's column. W² weighs users by
    (length of the history)^−`user_balance`, scaled so that all interactions together weigh what they did: a history of
    n items fills n² cells of XᵀX, so that without it the longest histories decide. Above `dense_items` items, warm
    or not (the matrix has a cell for each pair), each column is fitted on the `neighbours` items it shares most users
    with (by cosine) instead: the same normal equations on that support (as fsSLIM, Ning & Karypis 2011, §4.2), and B is
    sparse.
    """

    @classmethod
    def fit(
        cls,
        seen_UN: csr_matrix,
        dropout: ShareBelow1 = 0.33,
        l2: Above0 = 2.0,
        user_balance: Share = 0.5,
        dense_items: AtLeast0 = 20_000,
        neighbours: AtLeast1 = 256,
    ) -> Self:
        """Solve the normal equations: time W³, memory 4 N² + 3 × 8 W² bytes dense; time W × neighbours³ where sparse.

        Raises SettingsError, before anything is allocated, where that is more than this machine has.
        """
        if not 0.0 <= dropout < 1.0 or l2 <= 0.0 or not 0.0 <= user_balance <= 1.0:
            raise TypeError("dropout must be a share in [0, 1), l2 above 0 and user_balance in [0, 1]")
        warm_W = np.flatnonzero(np.asarray(seen_UN.sum(axis=0)).ravel() > 0)
        warm_UW = seen_UN[:, warm_W]
        length_U = np.asarray(warm_UW.sum(axis=1)).ravel()
        items, warm = seen_UN.shape[1], len(warm_W)
        dense = items <= dense_items
        cells = min(float(np.square(length_U, dtype=np.float64).sum()), float(warm) ** 2)  # of XᵀX, at most
        what = f"edlae of {items:,} items, {warm:,} of them warm, {'dense' if dense else 'sparse'}"
        needed = 24.0 * cells + (4.0 * items**2 + 24.0 * warm**2 if dense else 0.0)
        check_memory(f"{what} (dense_items is {dense_items:,})", needed, "lower dense_items, or leave edlae out")
        gram_WW = (warm_UW.T @ diags(balanced(length_U, user_balance)) @ warm_UW).tocsr()
        weight_W = gram_WW.diagonal()
        ridge_W = dropout / (1.0 - dropout) * weight_W + l2 * weight_W.mean()
        if dense:
            weights_NN = np.zeros((items, items), np.float32)
            weights_NN[np.ix_(warm_W, warm_W)] = _dense(gram_WW, ridge_W)
            return cls(weights_NN)
        sparse_WW = _local(gram_WW, ridge_W, neighbours).tocoo()
        pairs = warm_W[sparse_WW.row], warm_W[sparse_WW.col]
        return cls(csr_matrix((sparse_WW.data, pairs), shape=(items, items)))


def _dense(gram_WW: csr_matrix, ridge_W: np.ndarray) -> np.ndarray:
    whole = torch.from_numpy(gram_WW.toarray().astype(np.float64))
    whole.diagonal().add_(torch.from_numpy(ridge_W))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(whole))
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0.0)
    return np.asarray(weights.float().numpy())


def _local(gram_WW: csr_matrix, ridge_W: np.ndarray, neighbours: int) -> csr_matrix:
    """Solve every column on its own support, many small systems at a time."""
    items = gram_WW.shape[0]
    norm_W = np.sqrt(gram_WW.diagonal())
    limit = min(neighbours, items - 1)
    data, rows, columns = [], [], []
    for start in range(0, items, SOLVED_AT_ONCE):
        targets = np.arange(start, min(start + SOLVED_AT_ONCE, items))
        support = [_nearest(gram_WW, norm_W, target, limit) for target in targets]
        for width in sorted({len(chosen) for chosen in support} - {0}):
            same = [place for place, chosen in enumerate(support) if len(chosen) == width]
            system_BKK = np.stack([gram_WW[support[p]][:, support[p]].toarray() for p in same]).astype(np.float64)
            right_BK = np.stack([gram_WW[targets[p]][:, support[p]].toarray().ravel() for p in same])
            places = np.arange(width)
            system_BKK[:, places, places] += np.stack([ridge_W[support[p]] for p in same])
            solved = torch.linalg.solve(torch.from_numpy(system_BKK), torch.from_numpy(right_BK.astype(np.float64)))
            data.append(solved.float().numpy().ravel())
            rows.append(np.concatenate([support[p] for p in same]))
            columns.append(np.repeat(targets[same], width))
    if not data:
        return csr_matrix((items, items), dtype=np.float32)
    return csr_matrix((np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))), shape=(items, items))


def _nearest(gram_WW: csr_matrix, norm_W: np.ndarray, target: int, limit: int) -> np.ndarray:
    """Return the items of the largest cosine with one, ascending by index; only items that share a user with it."""
    low, high = gram_WW.indptr[target : target + 2]
    others, shared = gram_WW.indices[low:high], gram_WW.data[low:high]
    keep = others != target
    others, shared = others[keep], shared[keep]
    if len(others) > limit:
        best = np.argpartition(-shared / norm_W[others], limit - 1)[:limit]
        others = others[best]
    return np.sort(others)
