"""One step's input: histories and targets drawn from sequences, candidates, and the items they all name.

Shape letters: B users, C candidates, S distinct items of the step, T targets of all users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.histories import Histories
from crossweave.alignment.model import ItemBatch
from crossweave.alignment.user_parts import UNKNOWN, UserBatch
from crossweave.feeding.items import ItemTensors
from crossweave.feeding.sequences import SequenceRows
from crossweave.training.item_tower import gather_items, in_memory
from crossweave.training.negatives import Negatives
from crossweave.training.plan import TrainingPlan
from crossweave.training.sample_weights import SampleWeights, WeightScale

EMPTY_HISTORY_SHARE = 0.02  # of users that are shown as newcomers, so that the tower learns what to say to one


@dataclass(frozen=True)
class StepBatch:
    """Everything a step needs, as torch tensors."""

    items: ItemBatch
    histories: Histories  # rows of `items`
    who: UserBatch
    candidates_C: Tensor  # int64, rows of `items`
    positives_BC: Tensor  # float32, what each target counts
    taken: tuple[Tensor, Tensor]  # (user, candidate) pairs of the targets, int64 [T] each
    rating_T: Tensor  # float32, their interactions' weights, standardised
    shown: tuple[
        Tensor, Tensor
    ]  # (user, candidate) pairs that stand in the history: never recommended, so no negatives
    log_inclusion_C: Tensor  # float32
    aligned_A: Tensor  # int64, rows of `items` for the alignment losses


class BatchMaker:
    """Makes steps out of sequence rows for one tensor set."""

    def __init__(self, items: ItemTensors, plan: TrainingPlan, scale: WeightScale) -> None:
        self._items, self._plan, self._scale = in_memory(items), plan, scale
        self._share_N = items.popularity_N.astype(np.float64) / max(1.0, float(items.popularity_N.sum()))
        self._negatives = Negatives(items.popularity_N, plan.negatives, plan.negative_power)
        self._counts = SampleWeights(items.popularity_N, plan.item_balance, plan.weight_by == "weight", scale)

    def make(self, rows: SequenceRows, seed: int) -> StepBatch:
        """Draw histories, targets and candidates; the same seed draws the same ones."""
        rng = np.random.default_rng(seed)
        shown, targets, weights, newcomer_B = self._part(rows, rng)
        target_T, weight_T = np.concatenate(targets), np.concatenate(weights)
        wanted = np.unique(target_T)
        drawn = self._negatives.draw(rng)
        candidates = np.union1d(wanted, drawn)
        index_S = np.union1d(candidates, np.unique(np.concatenate([*shown, candidates])))
        place_N = np.full(self._items.count, -1, np.int64)
        place_N[index_S] = np.arange(len(index_S))
        column_N = np.full(self._items.count, -1, np.int64)
        column_N[candidates] = np.arange(len(candidates))
        positives_BC = np.zeros((len(rows), len(candidates)), np.float32)
        owner, taken = _owners(targets), column_N[target_T]
        positives_BC[owner, taken] = self._counts.of(target_T, weight_T)
        shown_owner, shown_column = _owners(shown), column_N[np.concatenate(shown)]
        known = shown_column >= 0
        aligned = rng.permutation(len(index_S))[: self._plan.alignment_items]
        return StepBatch(
            gather_items(self._items, index_S),
            Histories.from_lists([place_N[row] for row in shown]),
            UserBatch.from_arrays(np.where(newcomer_B, UNKNOWN, rows.user_R), rows.attributes_RA),
            torch.from_numpy(place_N[candidates]),
            torch.from_numpy(positives_BC),
            (torch.from_numpy(owner), torch.from_numpy(taken)),
            torch.from_numpy(self._scale.standardise(weight_T)),
            (torch.from_numpy(shown_owner[known]), torch.from_numpy(shown_column[known])),
            torch.from_numpy(self._log_inclusion(candidates, len(owner))),
            torch.from_numpy(aligned),
        )

    def _part(
        self, rows: SequenceRows, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Show a random share of each sequence as history; the rest, at least one, are targets with their weights.

        The last says who is shown as a newcomer, bool [B].
        """
        shown, targets, target_weights, newcomers = [], [], [], []
        low, high = self._plan.history_keep
        for items, weights in zip(rows.items, rows.weights, strict=True):
            order = rng.permutation(len(items))
            keep = min(int(len(order) * rng.uniform(low, high)), len(order) - 1, self._plan.history_limit)
            newcomers.append(rng.random() < EMPTY_HISTORY_SHARE)
            keep = 0 if newcomers[-1] else keep
            shown.append(items[np.sort(order[:keep])])  # oldest first: some towers read a history as a sequence
            targets.append(items[order[keep:]])
            target_weights.append(weights[order[keep:]])
        return shown, targets, target_weights, np.array(newcomers)

    def _log_inclusion(self, candidates: np.ndarray, targets: int) -> np.ndarray:
        """Return log P(candidate is in the set) = log(1 − (1 − drawn) · (1 − share)^targets), 0 for what is certain."""
        missed = 1.0 - self._negatives.inclusion_N[candidates]
        missed = missed * np.exp(targets * np.log1p(-np.minimum(self._share_N[candidates], 1 - 1e-12)))
        return np.log1p(-missed).astype(np.float32)


def _owners(rows: list[np.ndarray]) -> np.ndarray:
    """Return for every element of the rows, laid end to end, which row it is of."""
    return np.repeat(np.arange(len(rows)), [len(row) for row in rows])
