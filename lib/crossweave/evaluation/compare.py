"""Whether one set of lists is better than another on the same users.

Shapes: U users that both were judged on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from crossweave.evaluation.intervals import RESAMPLES, Difference, paired_bootstrap_difference

BETTER, WORSE, EVEN = "better", "worse", "not distinguishable"


@dataclass(frozen=True)
class Comparison:
    """One metric of a model beside another one's."""

    other: str  # the previous run, or a baseline's name
    metric: str  # such as ndcg@20
    ours: float
    theirs: float
    difference: Difference

    @property
    def verdict(self) -> str:
        """Better or worse where the interval of the difference leaves out zero, else not distinguishable."""
        if self.difference.low > 0.0:
            return BETTER
        return WORSE if self.difference.high < 0.0 else EVEN


def compare(
    other: str,
    metric: str,
    ours_U: ArrayLike,
    theirs_U: ArrayLike,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Comparison:
    """Compare per-user values of the same users in the same order by a paired bootstrap."""
    difference = paired_bootstrap_difference(ours_U, theirs_U, seed=seed, resamples=resamples, level=level)
    return Comparison(other, metric, float(np.asarray(ours_U).mean()), float(np.asarray(theirs_U).mean()), difference)
