"""Decision-level blend: the neural model's score plus each collaborative model's, times a weight learned on validation.

One weight a model, for all users: a linear model's scores grow with the history, so a user of few items is ranked by
the neural model, one of many by behaviour. (Scaling both per user to unit variance measured .003 NDCG worse.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from crossweave.alignment.collaborative.base import Collaborative
from crossweave.alignment.histories import Histories

FOLDER = "collaborative"
Addition = Callable[[Tensor, int, int], None]
"""(scores [U, stop − start], start, stop): adds to the scores of a block of items, in place."""


@dataclass(frozen=True)
class Member:
    """One collaborative model of a blend."""

    name: str
    weight: float
    model: Collaborative


@dataclass(frozen=True)
class Blend:
    """The collaborative side of a score."""

    members: list[Member]

    def additions(self, histories: Histories) -> Addition | None:
        """Return what adds the weighted scores of users with these histories; None where there is nothing to add."""
        if not self.members:
            return None
        blocks = [(member.weight, member.model.blocks(histories)) for member in self.members]

        def add(scores_UB: Tensor, start: int, stop: int) -> None:
            for weight, block in blocks:
                scores_UB.add_(block(start, stop), alpha=weight)

        return add


def together(*additions: Addition | None) -> Addition | None:
    """Return what adds all of these, one after the other; None where there is none."""
    given = [addition for addition in additions if addition is not None]
    if not given:
        return None

    def add(scores_UB: Tensor, start: int, stop: int) -> None:
        for addition in given:
            addition(scores_UB, start, stop)

    return add


def save_members(folder: Path, members: list[Member]) -> dict[str, float]:
    """Write the models below a model's folder; returns name -> weight for its model.json."""
    for member in members:
        member.model.save(folder / FOLDER / member.name)
    return {member.name: member.weight for member in members}
