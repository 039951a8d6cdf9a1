"""Graph filter: what a history's items are linked to over the users who took both, smoothed over the whole graph."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix, diags, hstack

from crossweave.alignment.collaborative.item_item import ItemItem, largest_of_columns
from crossweave.alignment.memory import check_memory
from crossweave.alignment.ranges import AtLeast0, AtLeast1, NotNegative

COLUMNS_AT_ONCE = 512  # of the linear filter, which in whole may be as dense as N²


class Graph(ItemItem):
    """GF-CF: R̃ᵀR̃ + α D^−½ V Vᵀ D^½, R̃ the degree-normalised interactions, V its top right singular vectors.

    The linear filter sees two steps of the user–item graph, the low-pass one all of it (Shen et al. 2021, eq. 9 to
    11): LightGCN's propagation without its training. Above `dense_items` the linear filter alone is kept, the
    `neighbours` largest weights a column.
    """

    @classmethod
    def fit(
        cls,
        seen_UN: csr_matrix,
        alpha: NotNegative = 0.3,
        factors: AtLeast1 = 256,
        dense_items: AtLeast0 = 20_000,
        neighbours: AtLeast1 = 256,
    ) -> Self:
        """Compute the filter in closed form; dense it takes 48 N² bytes, and SettingsError says where they lack."""
        per_user, per_item = (np.asarray(seen_UN.sum(axis=axis), np.float64).ravel() for axis in (1, 0))
        user_root, item_root = (np.sqrt(np.maximum(n, 1.0)) for n in (per_user, per_item))
        normal_UN = diags(1.0 / user_root) @ seen_UN @ diags(1.0 / item_root)
        items, item_NU, by_item_UN = seen_UN.shape[1], csr_matrix(normal_UN.T), csc_matrix(normal_UN)
        if items > dense_items:
            starts = range(0, items, COLUMNS_AT_ONCE)
            columns = (item_NU @ by_item_UN[:, start : start + COLUMNS_AT_ONCE] for start in starts)
            return cls(hstack([largest_of_columns(part, neighbours) for part in columns], format="csr"))
        what = f"graph of {items:,} items, dense (dense_items is {dense_items:,})"
        check_memory(what, 48.0 * items**2, "lower dense_items, or leave graph out")
        whole = torch.from_numpy((normal_UN.T @ normal_UN).toarray())
        # Right singular vectors of R̃ are eigenvectors of R̃ᵀR̃.
        vectors = torch.linalg.eigh(whole).eigenvectors[:, -min(factors, len(whole)) :]
        root = torch.from_numpy(item_root)[:, None]
        low_pass = (vectors / root) @ (vectors * root).T
        weights_NN = (whole + alpha * low_pass).float().numpy()
        weights_NN[:, per_item == 0] = 0.0
        weights_NN[per_item == 0] = 0.0
        return cls(weights_NN)
