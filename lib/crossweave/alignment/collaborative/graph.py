"""Graph filter: what a history's items are linked to over the users who took both, smoothed over the whole graph."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags

from crossweave.alignment.collaborative.item_item import ItemItem, largest_of_columns
from crossweave.alignment.ranges import AtLeast0, AtLeast1, NotNegative


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
        """Compute the filter in closed form."""
        per_user, per_item = (np.asarray(seen_UN.sum(axis=axis), np.float64).ravel() for axis in (1, 0))
        user_root, item_root = (np.sqrt(np.maximum(n, 1.0)) for n in (per_user, per_item))
        normal_UN = diags(1.0 / user_root) @ seen_UN @ diags(1.0 / item_root)
        linear_NN = (normal_UN.T @ normal_UN).tocsr()
        if seen_UN.shape[1] > dense_items:
            return cls(largest_of_columns(linear_NN, neighbours))
        whole = torch.from_numpy(linear_NN.toarray())
        # Right singular vectors of R̃ are eigenvectors of R̃ᵀR̃.
        vectors = torch.linalg.eigh(whole).eigenvectors[:, -min(factors, len(whole)) :]
        root = torch.from_numpy(item_root)[:, None]
        low_pass = (vectors / root) @ (vectors * root).T
        weights_NN = (whole + alpha * low_pass).float().numpy()
        weights_NN[:, per_item == 0] = 0.0
        weights_NN[per_item == 0] = 0.0
        return cls(weights_NN)
