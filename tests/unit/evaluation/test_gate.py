"""The gate refuses what is worse beyond chance by more than is tolerated, and nothing else."""

from __future__ import annotations

import pytest

from crossweave.evaluation.gate import refusals
from crossweave.evaluation.report_content import ComparisonRow

BOTH = ("the run before", "popularity")


def row(other: str, low: float, high: float, metric: str = "ndcg@20", theirs: float = 0.2) -> ComparisonRow:
    middle = (low + high) / 2
    return ComparisonRow(other, metric, theirs + middle, theirs, middle, low, high, "", 10)


@pytest.mark.parametrize(
    ("low", "high", "tolerance", "refused"),
    [
        (-0.03, -0.01, 0.0, True),
        (-0.03, 0.001, 0.0, False),  # by chance
        (0.01, 0.02, 0.0, False),
        (-0.03, -0.01, 0.04, True),  # sure to lose more than 0.04 · 0.2 = 0.008
        (-0.03, -0.01, 0.06, False),  # may have lost only 0.01, and 0.012 is tolerated
    ],
)
def test_a_loss_counts_beyond_chance_and_tolerance(low: float, high: float, tolerance: float, refused: bool) -> None:
    assert bool(refusals([row("the run before", low, high)], "ndcg@20", tolerance, BOTH)) is refused


def test_only_the_gate_s_metric_and_those_it_is_against_count_and_each_gets_a_sentence() -> None:
    rows = [
        row("the run before", -0.03, -0.01),
        row("the run before", -0.03, -0.01, metric="recall@20"),
        row("popularity", -0.05, -0.02),
        row("ease", -0.05, -0.02),
    ]
    assert refusals(rows, "ndcg@20", 0.0, BOTH) == [
        "NDCG@20 is 0.1800, the run before has 0.2000 (difference between −0.0300 and −0.0100)",
        "NDCG@20 is 0.1650, popularity has 0.2000 (difference between −0.0500 and −0.0200)",
    ]
    assert refusals(rows, "mrr@20", 0.0, BOTH) == []
