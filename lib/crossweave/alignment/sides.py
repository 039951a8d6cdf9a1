"""The two sides of a score, ready to be brought together by the model.

Shape letters: B users, S items, D dim of the model, E dim of the head's product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossweave.alignment.attention import Attention


@dataclass(frozen=True)
class Users:
    """B users."""

    own_BD: Tensor  # what the tower says, before the head and whatever the target
    vector_BE: Tensor  # the head's user side
    attention: Attention | None = None  # adds what depends on the target

    def __len__(self) -> int:
        return len(self.vector_BE)

    def part(self, start: int, stop: int) -> Users:
        """Return the users from start to stop."""
        attention = self.attention.part(start, stop) if self.attention is not None else None
        return Users(self.own_BD[start:stop], self.vector_BE[start:stop], attention)


@dataclass(frozen=True)
class Targets:
    """S items as recommendations."""

    item_SE: Tensor  # the head's item side
    bias_S: Tensor
    query_SD: Tensor | None = None  # the item tower's target vectors, where users depend on the target

    @classmethod
    def stack(cls, variants: Sequence[Targets]) -> Targets:
        """Lay Q variants of the same items behind each other: [Q, S, ...]."""
        queries = [some.query_SD for some in variants if some.query_SD is not None]
        return cls(
            torch.stack([some.item_SE for some in variants]),
            torch.stack([some.bias_S for some in variants]),
            torch.stack(queries) if queries else None,
        )

    def take(self, index: Any) -> Targets:
        """Return some of the items, by whatever indexes a tensor."""
        return self._each(lambda side: side[index])

    def flat(self) -> Targets:
        """Return the items of [Q, S] laid end to end: [Q · S]."""
        return self._each(lambda side: side.flatten(0, 1))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        query_SD = change(self.query_SD) if self.query_SD is not None else None
        return Targets(change(self.item_SE), change(self.bias_S), query_SD)
