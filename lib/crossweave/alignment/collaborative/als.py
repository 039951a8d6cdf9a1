"""ALS: factors of users and items; a user is solved from the history when scoring, so new histories need no refit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix
from torch import Tensor

from crossweave.alignment.collaborative.base import Blocks, Collaborative, Factorise
from crossweave.alignment.histories import Histories
from crossweave.alignment.ranges import Above0, AtLeast0, AtLeast1

LEAST_RIDGE = 1e-6  # of an empty history's system, which has no ridge of its own


class Als(Collaborative):
    """Weighted matrix factorisation: min Σ c (y − p·q)² + λ Σ nᵤ‖pᵤ‖² + λ Σ nᵢ‖qᵢ‖², c = 1 + α where taken, else 1.

    Hu, Koren & Volinsky 2008, eq. 3, with the ridge growing with the number of interactions (Zhou et al. 2008), as
    Spark ML has it. A user is one half-step: p = (QᵀQ + α Σ q qᵀ + λ n I)⁻¹ (1 + α) Σ q over the history (eq. 4).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"factorise"})

    def __init__(self, item_NF: np.ndarray, gram_FF: np.ndarray, alpha: float, l2: float) -> None:
        """Take item factors and their QᵀQ at fitting, which placed items do not change."""
        self.item_NF, self.gram_FF, self.alpha, self.l2 = item_NF, gram_FF, alpha, l2

    @classmethod
    def fit(
        cls,
        seen_UN: csr_matrix,
        factorise: Factorise,
        rank: AtLeast1 = 64,
        alpha: Above0 = 5.0,
        l2: Above0 = 0.1,
        iterations: AtLeast1 = 10,
        seed: AtLeast0 = 17,
    ) -> Self:
        """Have the factors computed by `factorise` (Spark ML under the train stage)."""
        if rank < 1 or iterations < 1 or alpha <= 0.0 or l2 <= 0.0:
            raise TypeError("rank and iterations must be at least 1, alpha and l2 above 0")
        item_NF = factorise(seen_UN, rank=rank, alpha=alpha, l2=l2, iterations=iterations, seed=seed)
        return cls(item_NF, item_NF.T @ item_NF, alpha, l2)

    def blocks(self, histories: Histories) -> Blocks:
        """Return inner products of the users' solved factors with those of the items."""
        item_NF = torch.from_numpy(self.item_NF)
        user_UF = self._users(histories, item_NF)
        return lambda start, stop: user_UF @ item_NF[start:stop].T

    def place(self, new_C: np.ndarray, warm_W: np.ndarray, map_WC: csc_matrix | np.ndarray) -> None:
        """Mix the factors of new items; histories hold none of them, so that users stay as they were."""
        self.item_NF[new_C] = np.asarray(map_WC.T @ self.item_NF[warm_W])

    def stretch(self, new_C: np.ndarray, factor: float) -> None:
        """Multiply the factors of these items."""
        self.item_NF[new_C] *= factor

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Return the factors, their products and the two numbers that solve a user."""
        return {"item": self.item_NF, "gram": self.gram_FF, "numbers": np.array([self.alpha, self.l2])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Build the model without copying the factors."""
        return cls(arrays["item"], np.asarray(arrays["gram"]), *map(float, arrays["numbers"]))

    def _users(self, histories: Histories, item_NF: Tensor) -> Tensor:
        gram_FF = torch.from_numpy(self.gram_FF)
        starts, lengths = histories.start_B.tolist(), histories.lengths
        taken_F = [item_NF[histories.index_F[s : s + n]] for s, n in zip(starts, lengths.tolist(), strict=True)]
        if not taken_F:
            return item_NF.new_zeros(0, item_NF.shape[1])
        system_UFF = torch.stack([rows.T @ rows for rows in taken_F]).mul_(self.alpha).add_(gram_FF)
        ridge_U = (self.l2 * lengths).clamp(min=LEAST_RIDGE)
        system_UFF.diagonal(dim1=1, dim2=2).add_(ridge_U[:, None])
        right_UF = torch.stack([rows.sum(dim=0) for rows in taken_F]).mul_(1.0 + self.alpha)
        solved: Tensor = torch.linalg.solve(system_UFF, right_UF)
        return solved
