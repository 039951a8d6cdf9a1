"""Item-kNN: an item is scored by how alike the history's items are to it in who took them."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.sparse import csr_matrix, hstack

from crossweave.alignment.collaborative.item_item import ItemItem, largest_of_columns
from crossweave.alignment.memory import check_memory
from crossweave.alignment.ranges import AtLeast0, AtLeast1, NotNegative

COLUMNS_AT_ONCE = 512  # of the co-occurrences, which in whole may be as dense as N²


class ItemKnn(ItemItem):
    """w_ij = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrink), the `neighbours` largest of each column (Sarwar et al. 2001).

    `shrink` holds back pairs that few users support (Dacrema et al. 2019). Below `dense_items` the weights are kept as
    one dense matrix.
    """

    @classmethod
    def fit(
        cls, seen_UN: csr_matrix, neighbours: AtLeast1 = 200, shrink: NotNegative = 10.0, dense_items: AtLeast0 = 20_000
    ) -> Self:
        """Count common users: time of the sparse product XᵀX, memory of some of its columns and of what is kept."""
        if neighbours < 1 or shrink < 0.0:
            raise TypeError("neighbours must be at least 1 and shrink at least 0")
        items, kept = seen_UN.shape[1], min(neighbours, seen_UN.shape[1])
        needed = 24.0 * seen_UN.nnz + (24.0 * kept * items) + (4.0 * items**2 if items <= dense_items else 0.0)
        what = f"item_knn of {items:,} items and {seen_UN.nnz:,} interactions (dense_items is {dense_items:,})"
        check_memory(what, needed, "lower dense_items or neighbours, or leave item_knn out")
        item_NU, by_item_UN = seen_UN.T.tocsr(), seen_UN.tocsc()
        root_N = np.sqrt(np.asarray(seen_UN.multiply(seen_UN).sum(axis=0)).ravel())
        parts = []
        for start in range(0, seen_UN.shape[1], COLUMNS_AT_ONCE):
            common = (item_NU @ by_item_UN[:, start : start + COLUMNS_AT_ONCE]).tocoo()
            other = common.row != common.col + start
            row, column, count = common.row[other], common.col[other], common.data[other]
            weights = count / (root_N[row] * root_N[column + start] + shrink)
            parts.append(largest_of_columns(csr_matrix((weights, (row, column)), shape=common.shape), neighbours))
        kept_NN = hstack(parts, format="csr")
        return cls(kept_NN.toarray() if kept_NN.shape[0] <= dense_items else kept_NN)
