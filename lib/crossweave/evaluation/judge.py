"""Judges recommendation lists by full ranking: metrics with intervals, slices, and a popularity baseline beside.

Shapes: U evaluated users, K list places, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossweave.evaluation.intervals import bootstrap_means
from crossweave.evaluation.metrics import Relevance, coverage, gini, novelty, ranking_metrics
from crossweave.evaluation.report_content import OVERALL_SLICE, MetricRow, SliceRow
from crossweave.evaluation.slices import HISTORY_BUCKETS, average_by_label, history_length_bucket, item_slice_metrics

WARM, COLD = "warm", "cold"


@dataclass(frozen=True, eq=False)
class Judged:
    """What is judged."""

    recommended_UK: NDArray[np.int64]  # item indices, best first, PAD where a list is short
    baseline_UK: NDArray[np.int64]  # the same users' lists by popularity
    relevance: Relevance
    history_U: NDArray[np.int64]  # training items of each user
    popularity_N: NDArray[np.float64]  # training interactions of each item
    candidates_N: NDArray[np.bool_]  # items that may be recommended
    missing_N: NDArray[np.int64]  # modalities that each item lacks


def judge(data: Judged, ks: Sequence[int], *, seed: int, resamples: int) -> tuple[list[MetricRow], list[SliceRow]]:
    """Return the metric rows (all users) and the slice rows."""
    values = ranking_metrics(data.recommended_UK, data.relevance, ks)
    baseline = ranking_metrics(data.baseline_UK, data.relevance, ks)
    intervals = bootstrap_means(values, seed=seed, resamples=resamples)
    rows = []
    for name, interval in intervals.items():
        metric, k = name.split("@")
        mean = float(baseline[name].mean())
        rows.append(
            MetricRow(metric, int(k), OVERALL_SLICE, interval.mean, interval.low, interval.high, interval.users, mean)
        )
    return rows + _list_metrics(data, ks), _slices(data, values, ks)


def _list_metrics(data: Judged, ks: Sequence[int]) -> list[MetricRow]:
    """Figures of all lists together: they belong to no single user, so they carry no interval."""
    candidates, users = int(data.candidates_N.sum()), data.relevance.users
    rows = []
    for k in ks:
        for name, measure in (("coverage", coverage), ("gini", gini)):
            ours, theirs = (measure(lists, candidates, k) for lists in (data.recommended_UK, data.baseline_UK))
            rows.append(MetricRow(name, k, OVERALL_SLICE, ours, None, None, users, theirs))
        ours, theirs = (novelty(lists, data.popularity_N, k) for lists in (data.recommended_UK, data.baseline_UK))
        rows.append(MetricRow("novelty", k, OVERALL_SLICE, ours, None, None, users, theirs))
    return rows


def _slices(data: Judged, values: dict[str, NDArray[np.float64]], ks: Sequence[int]) -> list[SliceRow]:
    rows = [
        SliceRow("users by history length", mean.slice, mean.metric, mean.value, mean.users)
        for mean in average_by_label(values, history_length_bucket(data.history_U), HISTORY_BUCKETS)
    ]
    warmth_N = np.where(data.popularity_N > 0, WARM, COLD)
    lacks_N = np.where(data.missing_N == 0, "none missing", np.where(data.missing_N == 1, "one missing", "2+ missing"))
    families = (("items by warmth", warmth_N, (WARM, COLD)), ("items by missing modalities", lacks_N, ()))
    for family, labels_N, order in families:
        for part in item_slice_metrics(data.recommended_UK, data.relevance, labels_N, ks, order=order):
            rows += [SliceRow(family, m.slice, m.metric, m.value, m.users) for m in part.means()]
    return rows
