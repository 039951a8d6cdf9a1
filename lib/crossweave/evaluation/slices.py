"""Slices: the same metrics for parts of the users, or for parts of the items.

A slice of *users* averages their values by a label. A slice of *items* keeps only the relevant items of the slice
and asks how the unchanged lists serve those; users without such an item are left out and the rest is counted.
Shapes: U users, K list places, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossweave.errors import InputContractError
from crossweave.evaluation.metrics import METRICS, Relevance, checked_lists, ranking_metrics

HISTORY_BUCKETS: tuple[str, ...] = ("0", "1–4", "5–19", "20–99", "100+")
_BUCKET_STARTS = (1, 5, 20, 100)


@dataclass(frozen=True)
class SliceMean:
    """The mean of one metric over the `users` of one slice."""

    slice: str
    metric: str
    value: float
    users: int


@dataclass(frozen=True, eq=False)
class ItemSlice:
    """Per-user metrics with relevance restricted to the items of one slice.

    `rows` int64 [S]: the rows of the batch that have a relevant item in the slice, rising.
    `values` {metric@K: float64 [S]}, aligned with `rows`; empty arrays when no user has such an item.
    """

    slice: str
    rows: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]

    @property
    def users(self) -> int:
        """Users that have a relevant item in the slice."""
        return len(self.rows)

    def means(self) -> list[SliceMean]:
        """The mean of every metric over those users; empty when there is none."""
        if not self.users:
            return []
        return [SliceMean(self.slice, metric, float(v.mean()), self.users) for metric, v in self.values.items()]


def history_length_bucket(lengths: ArrayLike) -> NDArray[np.str_]:
    """Label every user by the length of the history: "0", "1–4", "5–19", "20–99" or "100+".

    `lengths` whole numbers of 0 or more [U]. Returns strings [U]. Raises InputContractError otherwise.
    """
    lengths_U = np.asarray(lengths)
    if lengths_U.ndim != 1 or (lengths_U.size and (lengths_U.dtype.kind not in "iu" or lengths_U.min() < 0)):
        raise InputContractError(
            f"history lengths must be whole numbers of 0 or more, one a user, got {lengths_U.dtype} of shape "
            f"{lengths_U.shape}"
        )
    return np.array(HISTORY_BUCKETS)[np.searchsorted(_BUCKET_STARTS, lengths_U, side="right")]


def average_by_label(values: Mapping[str, ArrayLike], labels: ArrayLike, order: Sequence[str] = ()) -> list[SliceMean]:
    """Average per-user metrics over the users of each label.

    `values` {metric: numbers [U]}, `labels` strings [U]. Labels named in `order` come first and in that order,
    the others after them in rising order; a label without users is left out. Raises InputContractError when a
    metric has another number of users than `labels`.
    """
    names, member_U, users_S = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True, return_counts=True)
    columns = {metric: np.asarray(column, dtype=np.float64) for metric, column in values.items()}
    for metric, column in columns.items():
        if column.shape != member_U.shape:
            raise InputContractError(f"{metric} has shape {column.shape}, the labels {member_U.shape}")
    sums = {metric: np.bincount(member_U, weights=column, minlength=len(names)) for metric, column in columns.items()}
    wanted = {label: place for place, label in enumerate(order)}
    by_order = sorted(range(len(names)), key=lambda s: (wanted.get(str(names[s]), len(wanted)), str(names[s])))
    return [
        SliceMean(str(names[s]), metric, float(sums[metric][s] / users_S[s]), int(users_S[s]))
        for s in by_order
        for metric in columns
    ]


def restrict_relevance(relevance: Relevance, in_slice_I: ArrayLike) -> tuple[Relevance, NDArray[np.int64]]:
    """Keep the relevant items of a slice, and the users that still have one.

    `in_slice_I` bool [I], true for the items of the slice. Returns the smaller relevance and the rows of the
    users it keeps, int64 [S], rising. Raises InputContractError when an item index lies outside the mask.
    """
    mask_I = np.asarray(in_slice_I)
    if mask_I.ndim != 1 or mask_I.dtype != np.bool_:
        raise InputContractError(f"the item mask must be bool with one dimension, got {mask_I.dtype} {mask_I.shape}")
    if relevance.indices.max(initial=-1) >= len(mask_I):
        raise InputContractError(f"the mask covers {len(mask_I)} items, item {relevance.indices.max()} is relevant")
    kept_R = mask_I[relevance.indices]
    owners = relevance.owners()[kept_R]
    rows, new_owner = np.unique(owners, return_inverse=True)
    return Relevance.from_pairs(new_owner, relevance.indices[kept_R], len(rows)), rows


def item_slice_metrics(
    recommended_UK: ArrayLike,
    relevance: Relevance,
    labels_I: ArrayLike,
    ks: Sequence[int],
    metrics: Sequence[str] = METRICS,
    order: Sequence[str] = (),
) -> list[ItemSlice]:
    """Compute the metrics for every slice of items, say warm and cold.

    `labels_I` strings [I], the slice of each item of the catalog. The lists stay as they are; only relevance is
    restricted. One ItemSlice a label, ordered as in `average_by_label`. Raises InputContractError as
    `ranking_metrics` does.
    """
    lists_UK = checked_lists(recommended_UK)
    if len(lists_UK) != relevance.users:
        raise InputContractError(f"expected lists of {relevance.users} users, got {len(lists_UK)} rows")
    labels = np.asarray(labels_I, dtype=np.str_)
    names = [name for name in order if name in set(labels.tolist())]
    names += sorted(set(labels.tolist()) - set(names))
    return [item_slice(lists_UK, relevance, name, labels == name, ks, metrics) for name in names]


def item_slice(
    recommended_UK: NDArray[np.int64],
    relevance: Relevance,
    name: str,
    in_slice_I: ArrayLike,
    ks: Sequence[int],
    metrics: Sequence[str] = METRICS,
) -> ItemSlice:
    """Compute the metrics for one slice of items, bool [I], of lists that are checked."""
    restricted, rows = restrict_relevance(relevance, in_slice_I)
    return ItemSlice(name, rows, ranking_metrics(recommended_UK[rows], restricted, ks, metrics))
