"""One step's input: histories and targets drawn from sequences, candidates, and the items they all name.

Shape letters: B users, C candidates, S distinct items of the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.histories import Histories
from crossweave.alignment.model import ItemBatch
from crossweave.feeding.items import ItemTensors
from crossweave.feeding.sequences import SequenceRows
from crossweave.training.item_tower import gather_items, in_memory
from crossweave.training.plan import TrainingPlan

EMPTY_HISTORY_SHARE = 0.02  # of users that are shown as newcomers, so that the tower learns what to say to one


@dataclass(frozen=True)
class StepBatch:
    """Everything a step needs, as torch tensors."""

    items: ItemBatch
    histories: Histories  # rows of `items`
    candidates_C: Tensor  # int64, rows of `items`
    positives_BC: Tensor  # float32
    shown: tuple[
        Tensor, Tensor
    ]  # (user, candidate) pairs that stand in the history: never recommended, so no negatives
    log_inclusion_C: Tensor  # float32
    aligned_A: Tensor  # int64, rows of `items` for the alignment losses


class BatchMaker:
    """Makes steps out of sequence rows for one tensor set."""

    def __init__(self, items: ItemTensors, plan: TrainingPlan) -> None:
        self._items, self._plan = in_memory(items), plan
        self._share_N = items.popularity_N.astype(np.float64) / max(1.0, float(items.popularity_N.sum()))
        self._trained = np.flatnonzero(items.popularity_N > 0)

    def make(self, rows: SequenceRows, seed: int) -> StepBatch:
        """Draw histories, targets and candidates; the same seed draws the same ones."""
        rng = np.random.default_rng(seed)
        shown, targets = self._part(rows, rng)
        wanted = np.unique(np.concatenate(targets))
        drawn = self._draw_negatives(rng)
        candidates = np.union1d(wanted, drawn)
        index_S = np.union1d(candidates, np.unique(np.concatenate([*shown, candidates])))
        place_N = np.full(self._items.count, -1, np.int64)
        place_N[index_S] = np.arange(len(index_S))
        column_N = np.full(self._items.count, -1, np.int64)
        column_N[candidates] = np.arange(len(candidates))
        positives_BC = np.zeros((len(rows), len(candidates)), np.float32)
        owner = _owners(targets)
        positives_BC[owner, column_N[np.concatenate(targets)]] = 1.0
        shown_owner, shown_column = _owners(shown), column_N[np.concatenate(shown)]
        known = shown_column >= 0
        aligned = rng.permutation(len(index_S))[: self._plan.alignment_items]
        return StepBatch(
            gather_items(self._items, index_S),
            Histories.from_lists([place_N[row] for row in shown]),
            torch.from_numpy(place_N[candidates]),
            torch.from_numpy(positives_BC),
            (torch.from_numpy(shown_owner[known]), torch.from_numpy(shown_column[known])),
            torch.from_numpy(self._log_inclusion(candidates, len(owner))),
            torch.from_numpy(aligned),
        )

    def _part(self, rows: SequenceRows, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Show a random share of each sequence as history; the rest are the targets, at least one."""
        shown, targets = [], []
        low, high = self._plan.history_keep
        for items in rows.items:
            order = rng.permutation(len(items))
            keep = min(int(len(order) * rng.uniform(low, high)), len(order) - 1, self._plan.history_limit)
            keep = 0 if rng.random() < EMPTY_HISTORY_SHARE else keep
            shown.append(items[np.sort(order[:keep])])  # oldest first: some towers read a history as a sequence
            targets.append(items[order[keep:]])
        return shown, targets

    def _draw_negatives(self, rng: np.random.Generator) -> np.ndarray:
        if self._plan.negatives >= len(self._trained):
            return self._trained
        return rng.choice(self._trained, self._plan.negatives, replace=False)

    def _log_inclusion(self, candidates: np.ndarray, targets: int) -> np.ndarray:
        """Return log P(candidate is in the set) = log(1 − (1 − drawn) · (1 − share)^targets)."""
        drawn = min(1.0, self._plan.negatives / max(1, len(self._trained)))
        if drawn == 1.0:
            return np.zeros(len(candidates), np.float32)
        missed = (1.0 - drawn) * np.exp(targets * np.log1p(-np.minimum(self._share_N[candidates], 1 - 1e-12)))
        return np.log1p(-missed).astype(np.float32)


def _owners(rows: list[np.ndarray]) -> np.ndarray:
    """Return for every element of the rows, laid end to end, which row it is of."""
    return np.repeat(np.arange(len(rows)), [len(row) for row in rows])
