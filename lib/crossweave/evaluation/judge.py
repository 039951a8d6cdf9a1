"""Judges recommendation lists by full ranking: metrics with intervals, slices, and baselines beside.

Shapes: U evaluated users, K list places, N items.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossweave.evaluation.auc import limited_auc
from crossweave.evaluation.beyond import intra_list_diversity, popularity_lift
from crossweave.evaluation.compare import compare
from crossweave.evaluation.intervals import bootstrap_means
from crossweave.evaluation.metrics import PAD, Relevance, coverage, gini, hit_matrix, novelty, ranking_metrics
from crossweave.evaluation.report_content import OVERALL_SLICE, ComparisonRow, MetricRow, SliceRow
from crossweave.evaluation.slices import HISTORY_BUCKETS, average_by_label, history_length_bucket, item_slice_metrics

WARM, COLD = "warm", "cold"
COMPARED = ("ndcg", "recall")
REORDERING = "re-ranking and exploration"
"""The family of slices that compares the lists by score with those served."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What is judged."""

    recommended_UK: NDArray[np.int64]  # item indices, best first, PAD where a list is short
    baselines: Mapping[str, NDArray[np.int64]]  # name -> the same users' lists; by popularity first
    relevance: Relevance
    histories: Relevance  # training items of each user
    candidates_U: NDArray[np.int64]  # items that could have been recommended to each user
    vectors_ND: NDArray[np.float32]  # of the items, to tell how alike they are
    popularity_N: NDArray[np.float64]  # training interactions of each item
    candidates_N: NDArray[np.bool_]  # items that may be recommended
    missing_N: NDArray[np.int64]  # modalities that each item lacks
    before_UK: NDArray[np.int64] | None = None  # the lists before re-ranking and exploration, where there is either
    explored_UK: NDArray[np.bool_] | None = None  # places that an item has by exploration


def judge(data: Judged, ks: Sequence[int], *, seed: int, resamples: int) -> tuple[list[MetricRow], list[SliceRow]]:
    """Return the metric rows (all users) and the slice rows."""
    values = _per_user(data, data.recommended_UK, ks)
    baselines = {other: _per_user(data, lists_UK, ks) for other, lists_UK in data.baselines.items()}
    intervals = bootstrap_means(values, seed=seed, resamples=resamples)
    rows = []
    for name, interval in intervals.items():
        metric, k = name.split("@")
        means = {other: float(theirs[name].mean()) for other, theirs in baselines.items()}
        rows.append(_row(metric, int(k), interval.mean, interval.users, means, interval.low, interval.high))
    return rows + _list_metrics(data, ks), _slices(data, values, ks)


def compared_metrics(k: int, gated: str | None = None) -> tuple[str, ...]:
    """Name the metrics that lists are compared by: the usual ones at K, and the one that a gate asks for."""
    usual = tuple(f"{name}@{k}" for name in COMPARED)
    return usual if gated is None or gated in usual else (*usual, gated)


def compare_lists(
    data: Judged, others: Mapping[str, NDArray[np.int64]], metrics: Sequence[str], *, seed: int, resamples: int
) -> list[ComparisonRow]:
    """Compare the lists with others for the same users, of which only those count that have any there."""
    rows = []
    for other, lists_UK in others.items():
        has_U = (lists_UK != PAD).any(axis=1)
        if not has_U.any():
            continue
        for metric in metrics:
            name, k = metric.split("@")
            ours, theirs = (
                ranking_metrics(lists, data.relevance, [int(k)], [name])[metric][has_U]
                for lists in (data.recommended_UK, lists_UK)
            )
            found = compare(other, metric, ours, theirs, seed=seed, resamples=resamples)
            gap = found.difference
            rows.append(
                ComparisonRow(
                    other, metric, found.ours, found.theirs, gap.mean, gap.low, gap.high, found.verdict, gap.users
                )
            )
    return rows


def _row(
    metric: str,
    k: int,
    value: float,
    users: int,
    baselines: Mapping[str, float],
    low: float | None = None,
    high: float | None = None,
) -> MetricRow:
    (first, *others) = baselines.items()
    return MetricRow(metric, k, OVERALL_SLICE, value, low, high, users, first[1], dict(others))


def _per_user(data: Judged, lists_UK: NDArray[np.int64], ks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    areas = {f"auc@{k}": limited_auc(lists_UK, data.relevance, data.candidates_U, k) for k in ks}
    return ranking_metrics(lists_UK, data.relevance, ks) | areas


def _list_metrics(data: Judged, ks: Sequence[int]) -> list[MetricRow]:
    """Figures of all lists together: they belong to no single user, so they carry no interval."""
    candidates, users = int(data.candidates_N.sum()), data.relevance.users
    sides = {"": data.recommended_UK, **data.baselines}
    rows = []
    for k in ks:
        for name, measure in (
            ("coverage", functools.partial(coverage, candidates=candidates, k=k)),
            ("gini", functools.partial(gini, candidates=candidates, k=k)),
            ("novelty", functools.partial(novelty, popularity=data.popularity_N, k=k)),
        ):
            means = {other: measure(lists_UK) for other, lists_UK in sides.items()}
            rows.append(_row(name, k, means.pop(""), users, means))
        for name, per_list in (
            ("diversity", functools.partial(intra_list_diversity, item_ND=data.vectors_ND, k=k)),
            (
                "popularity_lift",
                functools.partial(popularity_lift, histories=data.histories, popularity_N=data.popularity_N, k=k),
            ),
        ):
            values = {other: per_list(lists_UK) for other, lists_UK in sides.items()}
            has_U = np.logical_and.reduce([np.isfinite(value_U) for value_U in values.values()])
            if has_U.any():
                means = {other: float(value_U[has_U].mean()) for other, value_U in values.items()}
                rows.append(_row(name, k, means.pop(""), int(has_U.sum()), means))
    return rows


def _slices(data: Judged, values: dict[str, NDArray[np.float64]], ks: Sequence[int]) -> list[SliceRow]:
    rows = [
        SliceRow("users by history length", mean.slice, mean.metric, mean.value, mean.users)
        for mean in average_by_label(values, history_length_bucket(data.histories.counts()), HISTORY_BUCKETS)
    ]
    warmth_N = np.where(data.popularity_N > 0, WARM, COLD)
    lacks_N = np.where(data.missing_N == 0, "none missing", np.where(data.missing_N == 1, "one missing", "2+ missing"))
    families = (("items by warmth", warmth_N, (WARM, COLD)), ("items by missing modalities", lacks_N, ()))
    for family, labels_N, order in families:
        for part in item_slice_metrics(data.recommended_UK, data.relevance, labels_N, ks, order=order):
            rows += [SliceRow(family, m.slice, m.metric, m.value, m.users) for m in part.means()]
    if data.before_UK is not None:
        rows += _reordering(data, data.before_UK, values, ks)
    if data.explored_UK is not None and data.explored_UK.any():
        rows += _places(data, data.explored_UK, ks)
    return rows


def _reordering(
    data: Judged, before_UK: NDArray[np.int64], values: dict[str, NDArray[np.float64]], ks: Sequence[int]
) -> list[SliceRow]:
    """What re-ranking and exploration cost and gain: the same figures of the lists by score and of those served."""
    candidates = int(data.candidates_N.sum())
    rows = []
    for part, lists_UK, own in (
        ("before", before_UK, ranking_metrics(before_UK, data.relevance, ks)),
        ("after", data.recommended_UK, values),
    ):
        means = {name: float(value_U.mean()) for name, value_U in own.items()}
        for k in ks:
            means[f"coverage@{k}"] = coverage(lists_UK, candidates, k)
            means[f"novelty@{k}"] = novelty(lists_UK, data.popularity_N, k)
        rows += [SliceRow(REORDERING, part, name, mean, data.relevance.users) for name, mean in means.items()]
    return rows


def _places(data: Judged, explored_UK: NDArray[np.bool_], ks: Sequence[int]) -> list[SliceRow]:
    """How often an explored place, and one by score, holds something relevant."""
    hits_UK, filled_UK = hit_matrix(data.recommended_UK, data.relevance), data.recommended_UK != PAD
    rows = []
    for part, chosen_UK in (("explored", explored_UK), ("by score", filled_UK & ~explored_UK)):
        for k in ks:
            places = int(chosen_UK[:, :k].sum())
            if places:
                hits = int((hits_UK & chosen_UK)[:, :k].sum())
                rows.append(SliceRow("places by exploration", part, f"precision@{k}", hits / places, places))
    return rows
