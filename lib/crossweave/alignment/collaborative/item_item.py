"""Item–item models: a weight for each pair (item of the history, candidate); a score is the sum over the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix, hstack

from crossweave.alignment.collaborative.base import Blocks, Collaborative
from crossweave.alignment.histories import Histories

COLUMNS_AT_ONCE, KEPT = 1024, 1024  # new items that are mixed at a time, and weights that each of them keeps, sparse


class ItemItem(Collaborative):
    """Weights [N, N], dense where the catalog is small, sparse where it is large; row: history, column: candidate."""

    def __init__(self, weights_NN: np.ndarray | csr_matrix) -> None:
        self.weights_NN = weights_NN

    def blocks(self, histories: Histories) -> Blocks:
        """Return the sums of the weights of each history's items."""
        if isinstance(self.weights_NN, np.ndarray):
            weights_NN = torch.from_numpy(self.weights_NN)
            scores_UN = histories.pooled(weights_NN, "sum")
            return lambda start, stop: scores_UN[:, start:stop]
        by_item_UN = (self._multi_hot(histories) @ self.weights_NN).tocsc()
        return lambda start, stop: torch.from_numpy(by_item_UN[:, start:stop].toarray())

    def place(self, new_C: np.ndarray, warm_W: np.ndarray, map_WC: csc_matrix | np.ndarray) -> None:
        """Mix the columns of new items; their rows stay zero until behaviour is known."""
        if isinstance(self.weights_NN, np.ndarray):
            self.weights_NN[:, new_C] = np.asarray(self.weights_NN[:, warm_W] @ map_WC)
            return
        warm_NW, mixtures = self.weights_NN.tocsc()[:, warm_W], csc_matrix(map_WC)
        starts = range(0, mixtures.shape[1], COLUMNS_AT_ONCE)
        parts = [largest_of_columns(warm_NW @ mixtures[:, at : at + COLUMNS_AT_ONCE], KEPT) for at in starts]
        mixed = hstack(parts).tocoo() if parts else csc_matrix((self.weights_NN.shape[0], 0)).tocoo()
        whole = self.weights_NN.tocoo()
        kept = ~np.isin(whole.col, new_C)
        values = np.concatenate([whole.data[kept], mixed.data]).astype(np.float32)
        rows = np.concatenate([whole.row[kept], mixed.row])
        columns = np.concatenate([whole.col[kept], new_C[mixed.col]])
        self.weights_NN = csr_matrix((values, (rows, columns)), shape=whole.shape)

    def stretch(self, new_C: np.ndarray, factor: float) -> None:
        """Multiply the columns of these items."""
        if isinstance(self.weights_NN, np.ndarray):
            self.weights_NN[:, new_C] *= factor
            return
        factor_N = np.ones(self.weights_NN.shape[1], np.float32)
        factor_N[new_C] = factor
        self.weights_NN = csr_matrix(self.weights_NN.multiply(factor_N))

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Return the weights, or the three arrays of a compressed sparse matrix."""
        if isinstance(self.weights_NN, np.ndarray):
            return {"weights": self.weights_NN}
        return {name: getattr(self.weights_NN, name) for name in ("data", "indices", "indptr")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Build the model without copying."""
        if "weights" in arrays:
            return cls(np.asarray(arrays["weights"]))
        count = len(arrays["indptr"]) - 1
        parts = tuple(np.asarray(arrays[name]) for name in ("data", "indices", "indptr"))
        return cls(csr_matrix(parts, shape=(count, count), copy=False))

    def _multi_hot(self, histories: Histories) -> csr_matrix:
        index = histories.index_F.numpy()
        ends = np.append(histories.start_B.numpy(), len(index))
        shape = (len(ends) - 1, self.weights_NN.shape[0])
        return csr_matrix((np.ones(len(index), np.float32), index, ends), shape=shape)


def largest_of_columns(weights_NN: csr_matrix, keep: int) -> csr_matrix:
    """Keep the `keep` weights of the largest size in each column, as float32."""
    by_column = weights_NN.tocsc()
    for column in range(by_column.shape[1]):
        part = by_column.data[by_column.indptr[column] : by_column.indptr[column + 1]]
        if len(part) > keep:
            part[np.argpartition(-np.abs(part), keep - 1)[keep:]] = 0.0
    by_column.eliminate_zeros()
    return by_column.tocsr().astype(np.float32)
