"""Fairness: how differently groups of users are served, and groups of items shown.

Users: the mean of a metric over each group, and the gap between the best and the worst served one. Items: what share of
the exposure falls on a group, beside its share of the catalog (demographic parity) and of what users took (disparate
treatment). A place counts 1 / log2(rank + 1), the chance of being looked at that NDCG assumes too.
Source: Singh and Joachims, Fairness of Exposure in Rankings, KDD 2018, sections 3 and 4.
Shapes: U users, K list places, N items, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.evaluation.groups import AGES, Groups
from crossweave.evaluation.judge import Judged
from crossweave.evaluation.metrics import PAD, Relevance, checked_ks, checked_lists, ranking_metrics
from crossweave.evaluation.report_content import SliceRow
from crossweave.evaluation.slices import SliceMean, item_slice, item_slice_metrics

GAPS = "gaps between groups"
"""The family of slices that says how far groups lie apart."""


@dataclass(frozen=True)
class Exposure:
    """What falls on one group of items; shares of 0…1, which add up to more than 1 where items have several values."""

    group: str
    items: int  # candidates
    users: int  # with a relevant item in the group
    exposure: float  # share of all lists, places weighed
    catalog: float  # share of the candidates
    relevance: float  # share of the relevant (user, item) pairs


@dataclass(frozen=True)
class Gap:
    """The groups that fare best and worst by one figure."""

    of: str  # users by country
    figure: str
    best: str
    worst: str
    difference: float  # best − worst
    ratio: float  # worst / best, 1: alike; both 0: 1
    members: int  # of the two groups
    left_out: int  # groups that are too small to be compared


@dataclass(frozen=True)
class GroupFigures:
    """All that is known of the groups: rows for report and table, and gaps by name."""

    rows: list[SliceRow]
    gaps: dict[str, Gap]

    @property
    def metrics(self) -> dict[str, float]:
        """The gaps as figures for the run record."""
        figures: dict[str, float] = {}
        for name, gap in self.gaps.items():
            figures |= {f"{name}.difference": gap.difference, f"{name}.ratio": gap.ratio}
        return figures


def judge_groups(
    data: Judged,
    ks: Sequence[int],
    k: int,
    *,
    user_groups: Sequence[Groups] = (),
    item_groups: Sequence[Groups] = (),
    age_N: NDArray[np.str_] | None = None,
    least: int,
) -> GroupFigures:
    """Slice the judged lists by attributes; gaps and exposure are at `k`.

    `user_groups` over the U judged users, `item_groups` over the N items, `age_N` a label of AGES an item. Groups of
    fewer than `least` users (for items: users with a relevant item in the group) are shown, but not in a gap.
    """
    rows: list[SliceRow] = []
    gaps: dict[str, Gap] = {}
    values = ranking_metrics(data.recommended_UK, data.relevance, ks)
    for groups in user_groups:
        means = means_by_group(values, groups)
        rows += [SliceRow(f"users by {groups.column}", m.slice, m.metric, m.value, m.users) for m in means]
        served = {m.slice: (m.value, m.users, m.users) for m in means if m.metric == f"ndcg@{k}"}
        gap = widest_gap(f"users by {groups.column}", f"ndcg@{k}", served, least)
        gaps |= {f"gap.users.{groups.column}.ndcg@{k}": gap} if gap is not None else {}
    for groups in item_groups:
        for g, name in enumerate(groups.names):
            part = item_slice(data.recommended_UK, data.relevance, name, groups.member_RG[:, g], ks)
            rows += [SliceRow(f"items by {groups.column}", m.slice, m.metric, m.value, m.users) for m in part.means()]
        shown = exposure_by_group(data.recommended_UK, groups, data.relevance, data.candidates_N, k)
        rows += [row for group in shown for row in _exposure_rows(groups.column, group, k)]
        for beside in ("catalog", "relevance"):
            figure = f"exposure_per_{beside}@{k}"
            known = {
                e.group: (share, e.users, e.items)
                for e in shown
                if (share := _ratio(e.exposure, getattr(e, beside))) is not None
            }
            gap = widest_gap(f"items by {groups.column}", figure, known, least)
            gaps |= {f"gap.items.{groups.column}.{figure}": gap} if gap is not None else {}
    if age_N is not None and (age_N != AGES[-1]).any():
        for part in item_slice_metrics(data.recommended_UK, data.relevance, age_N, ks, order=AGES):
            rows += [SliceRow("items by age", m.slice, m.metric, m.value, m.users) for m in part.means()]
    for gap in gaps.values():
        what = f"{gap.of}, {gap.figure.replace('_', ' ')}: {gap.worst} behind {gap.best}"
        rows += [SliceRow(GAPS, what, part, getattr(gap, part), gap.members) for part in ("difference", "ratio")]
    return GroupFigures(rows, gaps)


def means_by_group(values: Mapping[str, NDArray[np.float64]], groups: Groups) -> list[SliceMean]:
    """Average per-user metrics, {metric: float64 [U]}, over the users of each group, in the groups' order."""
    return [
        SliceMean(name, metric, float(column_U[groups.member_RG[:, g]].mean()), int(groups.sizes[g]))
        for g, name in enumerate(groups.names)
        for metric, column_U in values.items()
    ]


def widest_gap(of: str, figure: str, groups: Mapping[str, tuple[float, int, int]], least: int) -> Gap | None:
    """Compare the best and the worst group: name -> (figure, users, members).

    Groups of fewer than `least` users are left out; None where fewer than two remain.
    """
    enough = {name: (value, members) for name, (value, users, members) in groups.items() if users >= least}
    if len(enough) < 2:
        return None
    by_figure = sorted(enough, key=lambda name: enough[name][0])  # stable: of equal ones the first is the worst
    worst, best = by_figure[0], by_figure[-1]
    (high, most), (low, fewest) = enough[best], enough[worst]
    ratio = low / high if high > 0 else 1.0
    return Gap(of, figure, best, worst, high - low, ratio, most + fewest, len(groups) - len(enough))


def exposure_by_group(
    recommended_UK: ArrayLike, groups: Groups, relevance: Relevance, candidates: ArrayLike, k: int
) -> list[Exposure]:
    """Return what share of the exposure in the top k falls on each group, beside its two other shares.

    `groups` over the N items, `candidates` bool [N]. All shares are 0 where there is nothing to share.
    """
    (k,) = checked_ks([k])
    lists_UK, candidates_N = checked_lists(recommended_UK)[:, :k], np.asarray(candidates, bool)
    items, member_NG = len(candidates_N), groups.member_RG
    weight_UK = np.broadcast_to(1.0 / np.log2(np.arange(lists_UK.shape[1]) + 2.0), lists_UK.shape)
    filled_UK = lists_UK != PAD
    shown_N = np.bincount(lists_UK[filled_UK], weights=weight_UK[filled_UK], minlength=items).astype(np.float64)
    taken_N = np.bincount(relevance.indices, minlength=items).astype(np.float64)
    listed_N = candidates_N.astype(np.float64)
    shown_G, taken_G, listed_G = (_shares(amount_N, member_NG) for amount_N in (shown_N, taken_N, listed_N))
    owners = relevance.owners()
    return [
        Exposure(
            name,
            int((candidates_N & member_NG[:, g]).sum()),
            len(np.unique(owners[member_NG[relevance.indices, g]])),
            float(shown_G[g]),
            float(listed_G[g]),
            float(taken_G[g]),
        )
        for g, name in enumerate(groups.names)
    ]


def _shares(amount_N: NDArray[np.float64], member_NG: NDArray[np.bool_]) -> NDArray[np.float64]:
    total = float(amount_N.sum())
    return np.asarray(amount_N @ member_NG) / (total if total > 0 else 1.0)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _exposure_rows(column: str, group: Exposure, k: int) -> list[SliceRow]:
    figures: dict[str, float | None] = {
        f"exposure@{k}": group.exposure,
        "catalog": group.catalog,
        f"exposure_less_catalog@{k}": group.exposure - group.catalog,
        f"exposure_per_catalog@{k}": _ratio(group.exposure, group.catalog),
        "relevance": group.relevance,
        f"exposure_less_relevance@{k}": group.exposure - group.relevance,
        f"exposure_per_relevance@{k}": _ratio(group.exposure, group.relevance),
    }
    return [
        SliceRow(f"exposure by {column}", group.group, name, value, group.items)
        for name, value in figures.items()
        if value is not None
    ]
