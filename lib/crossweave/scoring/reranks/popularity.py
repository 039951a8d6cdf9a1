"""Popularity correction: a score less what popularity alone explains."""

from __future__ import annotations

import numpy as np

from crossweave.alignment.ranges import NotNegative
from crossweave.errors import SettingsError
from crossweave.scoring.reranks.base import ItemFacts, Pool, Rerank


class Popularity(Rerank):
    """score − weight · log(1 + training interactions of the item).

    Post-hoc logit adjustment (Menon et al. 2021) with items as classes: a softmax's logit holds the log of its
    class's frequency, and taking a share of it away serves the rare classes. Weight 0 changes nothing.
    """

    def __init__(self, weight: NotNegative = 0.1) -> None:
        if not weight >= 0:
            raise SettingsError(f"re-rank step popularity: weight must be 0 or more, got {weight}")
        self.weight = weight

    def __call__(self, pool: Pool, facts: ItemFacts) -> Pool:
        """Return the pool by the corrected relevance; equal ones keep their order."""
        less_UP = self.weight * np.log1p(facts.popularity_N[pool.items_UP])  # of PAD, which stays -inf, some item's
        relevance_UP = (pool.relevance_UP - less_UP).astype(np.float32)
        return Pool(pool.items_UP, relevance_UP).ordered(np.argsort(-relevance_UP, axis=1, kind="stable"))
