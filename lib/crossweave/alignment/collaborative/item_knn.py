"""Item-kNN: an item is scored by how alike the history's items are to it in who took them."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.sparse import csr_matrix

from crossweave.alignment.collaborative.item_item import ItemItem, largest_of_columns


class ItemKnn(ItemItem):
    """w_ij = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrink), the `neighbours` largest of each column (Sarwar et al. 2001).

    `shrink` holds back pairs that few users support (Dacrema et al. 2019). Below `dense_items` the weights are kept as
    one dense matrix.
    """

    @classmethod
    def fit(cls, seen_UN: csr_matrix, neighbours: int = 200, shrink: float = 10.0, dense_items: int = 20_000) -> Self:
        """Count common users: time and memory of the sparse product XᵀX."""
        if neighbours < 1 or shrink < 0.0:
            raise TypeError("neighbours must be at least 1 and shrink at least 0")
        common_NN = (seen_UN.T @ seen_UN).tocsr()
        root_N = np.sqrt(common_NN.diagonal())
        common_NN.setdiag(0.0)
        common_NN.eliminate_zeros()
        pairs = common_NN.tocoo()
        weights = pairs.data / (root_N[pairs.row] * root_N[pairs.col] + shrink)
        kept_NN = largest_of_columns(csr_matrix((weights, (pairs.row, pairs.col)), shape=pairs.shape), neighbours)
        return cls(kept_NN.toarray() if kept_NN.shape[0] <= dense_items else kept_NN)
