"""Groups of users or items that share a value of an attribute: few enough to be read, and nobody dropped.

Shapes: R rows (users or items), G groups.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST = 20
"""Values that get a group of their own; numbers with more different values are cut into quartiles."""
NONE, OTHERS = "(none)", "(others)"
AGES: tuple[str, ...] = ("up to 7 days", "8–30 days", "31–90 days", "91–365 days", "over a year", "not known")
_AGE_STARTS = (8, 31, 91, 366)


@dataclass(frozen=True, eq=False)
class Groups:
    """Who belongs to which group by one attribute; a row with several values belongs to several groups."""

    column: str
    names: tuple[str, ...]
    member_RG: NDArray[np.bool_]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each group, int64 [G]."""
        return self.member_RG.sum(axis=0)


def group_by_value(column: str, values: Sequence[Sequence[str]]) -> Groups:
    """Group rows by their values of an attribute; a row without one is in the group "(none)".

    Single numbers with more than LARGEST different values are cut into quartiles, named by their least and greatest.
    Else the LARGEST most frequent values (equally frequent ones in their own order) are groups, and all others share
    "(others)". Groups of numbers rise, others fall by size; "(others)" and "(none)" stand last.
    """
    numbers_R = _numbers(values)
    if numbers_R is not None and len(np.unique(numbers_R[np.isfinite(numbers_R)])) > LARGEST:
        return _quartiles(column, numbers_R)
    counts = Counter(value for row in values for value in set(row))
    names = sorted(counts, key=lambda value: (-counts[value], value))[:LARGEST]
    if numbers_R is not None:
        names.sort(key=float)
    has_others, has_none = len(counts) > len(names), any(not row for row in values)
    names += [OTHERS] * has_others + [NONE] * has_none
    place = {name: g for g, name in enumerate(names)}
    member_RG = np.zeros((len(values), len(names)), bool)
    for r, row in enumerate(values):
        for value in row or (NONE,):
            member_RG[r, place[value if value in place else OTHERS]] = True
    return Groups(column, tuple(names), member_RG)


def age_bucket(days: NDArray[np.float64]) -> NDArray[np.str_]:
    """Label ages in days, float64 [R], NaN where unknown; less than 0 counts as new. Returns strings [R]."""
    labels_R = np.array(AGES)[np.searchsorted(_AGE_STARTS, np.floor(np.nan_to_num(days)), side="right")]
    return np.where(np.isnan(days), AGES[-1], labels_R)


def _numbers(values: Sequence[Sequence[str]]) -> NDArray[np.float64] | None:
    """Return the values as numbers, NaN where a row has none; None where a row has several or a value is no number."""
    found = np.full(len(values), np.nan)
    for r, row in enumerate(values):
        if len(row) > 1:
            return None
        for value in row:
            try:
                found[r] = float(value)
            except ValueError:
                return None
            if not math.isfinite(found[r]):
                return None
    return found


def _quartiles(column: str, numbers_R: NDArray[np.float64]) -> Groups:
    known_R = np.isfinite(numbers_R)
    edges = np.quantile(numbers_R[known_R], [0.25, 0.5, 0.75], method="inverted_cdf")
    part_R = np.searchsorted(edges, numbers_R, side="left")
    masks, names = [], []
    for part in range(len(edges) + 1):
        mask_R = known_R & (part_R == part)
        if mask_R.any():  # a value that is more than a quarter of all leaves fewer parts
            low, high = numbers_R[mask_R].min(), numbers_R[mask_R].max()
            names.append(f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}")
            masks.append(mask_R)
    if not known_R.all():
        masks.append(~known_R)
        names.append(NONE)
    return Groups(column, tuple(names), np.stack(masks, axis=1))
