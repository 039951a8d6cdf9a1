"""Propagation: what an item is made of, spread over the graph of items that are taken together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix, diags

from crossweave.alignment.collaborative.base import Blocks, Collaborative, Content, Factorise, Neighbours
from crossweave.alignment.collaborative.content_map import centred
from crossweave.alignment.histories import Histories
from crossweave.alignment.ranges import Above0, AtLeast0, AtLeast1


class Propagation(Collaborative):
    """score = Σ over the history of z_h · z_t, Z = (1 / (L + 1)) Σ_{l ≤ L} Âˡ X: LightGCN's layers (He et al. 2020).

    X holds the items' content: mean-centred unit vectors of all modalities, projected at random to `dim` numbers, which
    keeps inner products (Johnson & Lindenstrauss 1984). A links an item to its `nearest` others by the cosine of
    ALS factors (as FREEDOM links them by content, Zhou & Shen 2023), negative ones cut, Â = D^−½ max(A, Aᵀ) D^−½.
    Factors and neighbours are worked out on the cluster; what is kept is N × `dim` numbers.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"factorise", "neighbours", "content"})

    def __init__(self, item_ND: np.ndarray) -> None:
        self.item_ND = item_ND

    @classmethod
    def fit(
        cls,
        seen_UN: csr_matrix,
        factorise: Factorise,
        neighbours: Neighbours,
        content: Content,
        dim: AtLeast1 = 256,
        nearest: AtLeast1 = 20,
        steps: AtLeast0 = 2,
        rank: AtLeast1 = 64,
        alpha: Above0 = 5.0,
        l2: Above0 = 0.1,
        iterations: AtLeast1 = 10,
        seed: AtLeast0 = 17,
    ) -> Self:
        """Spread the content; `rank` to `iterations` are those of ALS."""
        if min(dim, nearest, rank, iterations) < 1 or steps < 0 or alpha <= 0.0 or l2 <= 0.0:
            raise TypeError(
                "dim, nearest, rank and iterations must be at least 1, steps at least 0, alpha and l2 above 0"
            )
        taken_N = np.asarray(seen_UN.sum(axis=0)).ravel() > 0
        factor_NF = factorise(seen_UN, rank=rank, alpha=alpha, l2=l2, iterations=iterations, seed=seed)
        length_N1 = np.linalg.norm(factor_NF, axis=1, keepdims=True)
        graph_NN = _graph(*neighbours(factor_NF / np.maximum(length_N1, 1e-9), nearest))
        layer_ND = _projected(content, taken_N, dim, seed)
        total_ND = layer_ND.copy()
        for _ in range(steps):
            layer_ND = graph_NN @ layer_ND
            total_ND += layer_ND
        total_ND[~taken_N] = 0.0
        return cls((total_ND / (steps + 1)).astype(np.float32))

    def blocks(self, histories: Histories) -> Blocks:
        """Return inner products of the summed features of a history with those of the items."""
        item_ND = torch.from_numpy(self.item_ND)
        user_UD = histories.pooled(item_ND, "sum")
        return lambda start, stop: user_UD @ item_ND[start:stop].T

    def place(self, new_C: np.ndarray, warm_W: np.ndarray, map_WC: csc_matrix | np.ndarray) -> None:
        """Mix the features of new items; histories hold none of them, so that users stay as they were."""
        self.item_ND[new_C] = np.asarray(map_WC.T @ self.item_ND[warm_W])

    def stretch(self, new_C: np.ndarray, factor: float) -> None:
        """Multiply the features of these items."""
        self.item_ND[new_C] *= factor

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Return the propagated features."""
        return {"item": self.item_ND}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Build the model without copying."""
        return cls(arrays["item"])


def _graph(items_NK: np.ndarray, cosine_NK: np.ndarray) -> csr_matrix:
    row, place = np.nonzero(np.isfinite(cosine_NK) & (cosine_NK > 0.0))
    count = len(items_NK)
    links_NN = csr_matrix((cosine_NK[row, place], (row, items_NK[row, place])), shape=(count, count))
    links_NN = links_NN.maximum(links_NN.T)
    root_N = np.sqrt(np.maximum(np.asarray(links_NN.sum(axis=1)).ravel(), 1e-9))
    return csr_matrix(diags(1.0 / root_N) @ links_NN @ diags(1.0 / root_N))


def _projected(content: Content, reference_N: np.ndarray, dim: int, seed: int) -> np.ndarray:
    vectors, present_NM = content
    rng = np.random.default_rng(seed)
    made_ND = np.zeros((len(present_NM), dim), np.float32)
    for m, values_NF in enumerate(vectors.values()):
        unit_NF = centred(values_NF, present_NM[:, m], reference_N).numpy()
        made_ND += unit_NF @ rng.standard_normal((unit_NF.shape[1], dim), dtype=np.float32)
    return made_ND / np.sqrt(dim * max(1, len(vectors)))
