"""Verdicts of a paired comparison."""

from __future__ import annotations

import numpy as np
import pytest

from crossweave.evaluation.compare import BETTER, EVEN, WORSE, compare


def test_a_verdict_needs_more_than_chance() -> None:
    rng = np.random.default_rng(2)
    base = rng.random(400)
    better = compare("last run", "ndcg@20", base + 0.05 + 0.1 * rng.standard_normal(400), base, seed=1)
    worse = compare("last run", "ndcg@20", base - 0.05, base, seed=1)
    even = compare("last run", "ndcg@20", base + 0.5 * rng.standard_normal(400) * (np.arange(400) % 2), base, seed=1)
    assert [c.verdict for c in (better, worse, even)] == [BETTER, WORSE, EVEN]
    assert worse.ours - worse.theirs == pytest.approx(-0.05)
