"""Whether a new model may be served: not where it is worse than it may be, beyond chance."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from crossweave.evaluation.formats import format_metric, format_metric_name
from crossweave.evaluation.report_content import ComparisonRow


def refusals(
    comparisons: Sequence[ComparisonRow], metric: str, tolerance: float, against: Collection[str]
) -> list[str]:
    """Say why a new model should not be served, one sentence without its full stop each; none: it may be.

    It fails beside each of `against` where the whole interval of the difference lies below −`tolerance` × the other's
    value: it is sure to lose more than is tolerated. Without an interval beside one of them, that one says nothing.
    """
    return [
        f"{format_metric_name(metric)} is {format_metric(row.ours)}, {row.other} has {format_metric(row.theirs)} "
        f"(difference between {format_metric(row.low, signed=True)} and {format_metric(row.high, signed=True)})"
        for row in comparisons
        if row.metric == metric and row.other in against and row.high < -tolerance * row.theirs
    ]
