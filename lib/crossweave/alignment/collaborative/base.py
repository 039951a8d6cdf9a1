"""The contract of a collaborative model.

Shape letters: U users, N items of the index, W warm items (with a training interaction), C new items.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csc_matrix
from torch import Tensor

from crossweave.alignment.histories import Histories

Blocks = Callable[[int, int], Tensor]
"""(start, stop) → scores float32 [U, stop − start] of these items."""
Factorise = Callable[..., np.ndarray]
"""(seen_UN, rank, alpha, l2, iterations, seed) → item factors float32 [N, rank], zero for items that nobody took."""

Neighbours = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""(vectors float32 [N, D], k) → the k other items of the largest inner product, int64, and it, float32 [N, k]."""
Content = tuple[Mapping[str, np.ndarray], np.ndarray]
"""Modality vectors [N, their dim], and which items have them, bool [N, M]."""


class Collaborative(abc.ABC):
    """Scores of users by what they took, linear in each item's column.

    A subclass has a class method `fit(seen_UN, **settings)`: who took what (csr float32, 1 or absent) → a fitted model,
    in which items without any interaction have columns of zeros; TypeError for settings that make no sense.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """What else `fit` takes: `factorise` and `neighbours`, worked out on the workers of a cluster; `content`."""

    @abc.abstractmethod
    def blocks(self, histories: Histories) -> Blocks:
        """Return the scores of users with these histories, block by block; zero for an empty history."""

    @abc.abstractmethod
    def place(self, new_C: np.ndarray, warm_W: np.ndarray, map_WC: csc_matrix | np.ndarray) -> None:
        """Give new items the columns that `map_WC` mixes from the warm ones, in place of what they had."""

    @abc.abstractmethod
    def stretch(self, new_C: np.ndarray, factor: float) -> None:
        """Multiply the columns of these items, and so their scores."""

    @abc.abstractmethod
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Return what a saved model consists of."""

    @classmethod
    @abc.abstractmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Build a fitted model from its arrays."""

    def save(self, folder: Path) -> None:
        """Write one .npy an array."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.npy"):
            old.unlink()
        for name, array in self.arrays().items():
            np.save(folder / f"{name}.npy", array)
