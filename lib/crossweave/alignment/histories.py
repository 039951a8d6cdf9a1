"""Users' histories of very different lengths, laid end to end: no padding.

Shape letters: B users, F history items of all users together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor


@dataclass(frozen=True)
class Histories:
    """The histories of B users, oldest item first, as rows of the item vectors that go with them."""

    index_F: Tensor  # int64; user after user
    start_B: Tensor  # int64; where each user's items begin in index_F

    @classmethod
    def from_lists(cls, rows: Sequence[np.ndarray]) -> Histories:
        """Lay index arrays end to end; a user without history is an empty one."""
        lengths = np.array([0, *(len(row) for row in rows)], np.int64)
        flat = np.concatenate(rows) if len(rows) else np.empty(0)
        return cls(torch.from_numpy(flat.astype(np.int64)), torch.from_numpy(np.cumsum(lengths)[:-1]))

    @classmethod
    def from_matrix(cls, seen_UN: csr_matrix) -> Histories:
        """Take each row's columns, in their stored order, as a user's history."""
        index, start = seen_UN.indices.astype(np.int64), seen_UN.indptr[:-1].astype(np.int64)
        return cls(torch.from_numpy(index), torch.from_numpy(start))

    def padded(self, limit: int, chosen_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the newest `limit` rows of the chosen histories, none of them empty, and how many those are.

        int64 [X, L] with padding behind (any valid row), int64 [X]. Histories are oldest first.
        """
        length_X = self.lengths[chosen_B].clamp(max=limit)
        end_X = (self.start_B + self.lengths)[chosen_B]
        place_L = torch.arange(int(length_X.max()), device=self.index_F.device)
        return self.index_F[(end_X - length_X)[:, None] + place_L.minimum(length_X[:, None] - 1)], length_X

    def newest(self, limit: int) -> Histories:
        """Return the histories with at most their newest `limit` items."""
        length_B = self.lengths
        left_F = (self.start_B + length_B).repeat_interleave(length_B)
        left_F -= torch.arange(len(self.index_F), device=self.index_F.device)
        kept_B = length_B.clamp(max=limit)
        return Histories(self.index_F[left_F <= limit], kept_B.cumsum(0) - kept_B)

    def part(self, start: int, stop: int) -> Histories:
        """Return those of the users from start to stop."""
        begin_B = self.start_B[start:stop]
        if not len(begin_B):
            return Histories(self.index_F[:0], begin_B)
        end = self.start_B[stop] if stop < len(self.start_B) else len(self.index_F)
        return Histories(self.index_F[begin_B[0] : end], begin_B - begin_B[0])

    def pooled(self, row_SX: Tensor, mode: str) -> Tensor:
        """Return the `sum` or `mean` of each history's rows, [B, X]; zeros for an empty one."""
        return F.embedding_bag(self.index_F, row_SX, self.start_B, mode=mode)

    @property
    def lengths(self) -> Tensor:
        """The number of items of each user: int64 [B]."""
        ends_B = torch.cat([self.start_B[1:], self.start_B.new_tensor([len(self.index_F)])])
        return ends_B - self.start_B
