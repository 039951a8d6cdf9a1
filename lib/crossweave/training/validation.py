"""Full-ranking validation: every item is ranked for every user of this rank's shard."""

from __future__ import annotations

import numpy as np
import torch

from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel, ItemVectors
from crossweave.alignment.sides import Targets
from crossweave.alignment.user_parts import UserBatch
from crossweave.feeding.items import ItemTensors
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.sequences import SequenceRows, read_all
from crossweave.training.device import move
from crossweave.training.item_tower import all_items
from crossweave.training.plan import TrainingPlan

USERS_AT_ONCE = 256


@torch.inference_mode()
def validate(
    model: AlignmentModel, items: ItemTensors, manifest: Manifest, plan: TrainingPlan, rank: int, size: int
) -> tuple[float, int]:
    """Return the sum of the metric over this shard's users with held-out items, and their number.

    A history longer than one sequence row counts with its latest row only.
    """
    model.eval()
    history = all_items(model, items)
    targets = model.targets(history if plan.ids_in_validation else all_items(model, items, with_ids=False))
    trained = torch.from_numpy(items.popularity_N > 0).to(targets.bias_S.device)
    total, users = 0.0, 0
    for rows in read_all(manifest, rank, size) if manifest.rows("sequences", rank, size) else ():
        judged = rows.take(np.flatnonzero([len(held_out) > 0 for held_out in rows.held_out]))
        for start in range(0, len(judged), USERS_AT_ONCE):
            some = judged.take(np.arange(start, min(start + USERS_AT_ONCE, len(judged))))
            lists = _rank_items(model, some, history, targets, trained, plan)
            total += float(plan.metric(lists, some.held_out).sum())
            users += len(some)
    model.train()
    return total, users


def _rank_items(
    model: AlignmentModel,
    rows: SequenceRows,
    history: ItemVectors,
    targets: Targets,
    trained: torch.Tensor,
    plan: TrainingPlan,
) -> np.ndarray:
    histories = move(Histories.from_lists(rows.items), trained.device)
    who = move(UserBatch.from_arrays(rows.user_R, rows.attributes_RA), trained.device)
    scores_BN = model.scores(model.users(history.history_SD, histories, who), targets)
    return best_unseen(scores_BN, histories, trained, plan.metric_k)


def best_unseen(scores_BN: torch.Tensor, histories: Histories, allowed_N: torch.Tensor, k: int) -> np.ndarray:
    """Return each user's best allowed items outside the history, int64 [B, k], -1 where there are fewer.

    Overwrites the scores of what may not be recommended.
    """
    scores_BN.masked_fill_(~allowed_N, -torch.inf)
    owner_F = torch.arange(len(scores_BN), device=scores_BN.device).repeat_interleave(histories.lengths)
    scores_BN[owner_F, histories.index_F] = -torch.inf
    best = scores_BN.topk(min(k, scores_BN.shape[1]), dim=1)
    lists = np.where(torch.isfinite(best.values).cpu().numpy(), best.indices.cpu().numpy(), -1)
    return np.pad(lists, ((0, 0), (0, k - lists.shape[1])), constant_values=-1)
