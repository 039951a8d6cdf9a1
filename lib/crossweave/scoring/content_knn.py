"""Content-kNN: an item is scored by how alike it is to the mean of the history in what both are made of.

Shape letters: U users, N items, B items of a block, S items in histories, M modalities, F numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.collaborative.base import Blocks
from crossweave.alignment.histories import Histories

ITEMS_AT_ONCE = 8192


class ContentKnn:
    """Cosine of an item with the mean of the history's items, over the modality vectors laid side by side.

    Each modality's vector, less the mean of the catalog, has length 1, and a missing one is zero: raw vectors of one
    encoder all look alike. What is read is of the size of a block, so that memory does not grow with the catalog.
    """

    def __init__(self, vectors: Mapping[str, np.ndarray], present_NM: np.ndarray) -> None:
        """Take the modality vectors [N, F], memory-mapped, and which items have them (bool)."""
        self.vectors, self.present_NM = vectors, present_NM
        self.means = [_mean(vectors_NF, present_NM[:, m]) for m, vectors_NF in enumerate(vectors.values())]

    def blocks(self, histories: Histories) -> Blocks:
        """Return the cosines, up to the length of the user's mean, which changes no ranking; 0 without a history."""
        item_S, index_F = torch.unique(histories.index_F, return_inverse=True)
        near = Histories(index_F, histories.start_B)
        profiles = [near.pooled(unit_SF, "mean") for unit_SF in self._units(item_S.numpy())]

        def block(start: int, stop: int) -> Tensor:
            scores_UB = torch.zeros(len(histories.start_B), stop - start)
            for profile_UF, unit_BF in zip(profiles, self._units(np.arange(start, stop)), strict=True):
                scores_UB.addmm_(profile_UF, unit_BF.T)
            return scores_UB

        return block

    def _units(self, item_B: np.ndarray) -> list[Tensor]:
        """Return the vectors [B, F] of each modality, so that side by side they have length 1."""
        present_BM = torch.from_numpy(self.present_NM[item_B])
        share_B1 = present_BM.sum(dim=1, keepdim=True).clamp(min=1).float().rsqrt()
        units = []
        for m, (vectors_NF, mean_F) in enumerate(zip(self.vectors.values(), self.means, strict=True)):
            moved_BF = torch.from_numpy(np.asarray(vectors_NF[item_B], np.float32)) - mean_F
            unit_BF = torch.nn.functional.normalize(moved_BF, dim=1) * share_B1
            units.append(unit_BF * present_BM[:, m, None])
        return units


def _mean(vectors_NF: np.ndarray, present_N: np.ndarray) -> Tensor:
    total_F = np.zeros(vectors_NF.shape[1])
    for start in range(0, len(vectors_NF), ITEMS_AT_ONCE):
        part = slice(start, start + ITEMS_AT_ONCE)
        total_F += vectors_NF[part][present_N[part]].sum(axis=0, dtype=np.float64)
    return torch.from_numpy((total_F / max(1, int(present_N.sum()))).astype(np.float32))
