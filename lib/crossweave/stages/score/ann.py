"""Approximate scoring: where it can be had, the index beside the model, and its recall on a sample of users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.alignment import HEADS, USER_TOWERS, find
from crossweave.alignment.blend import FOLDER
from crossweave.alignment.model import is_product
from crossweave.artifacts.model import TrainedModel
from crossweave.artifacts.scored import ItemArrays
from crossweave.config import ScoreSettings, Settings
from crossweave.errors import SettingsError
from crossweave.scoring.ann import build_index, load_faiss
from crossweave.scoring.rules import ItemRules
from crossweave.stages.score.scorer import USER_COLUMNS, Task
from crossweave.stages.score.workers import compared_lists


def check_index(settings: Settings) -> None:
    """Raise SettingsError where an index is wanted of a model that none can search, or faiss is not installed."""
    if settings.score.ann.index is None:
        return
    load_faiss()
    model = settings.model
    members = [name for name, own in model.collaborative.items() if own is not None]
    _need_product(members, model.head, model.user_tower)


def write_index(
    model: TrainedModel, arrays: ItemArrays, folder: Path, rules: ItemRules | None, settings: ScoreSettings
) -> None:
    """Build the index of a model's candidates beside its vectors.

    Raises SettingsError where its score is more than one product: a model may be of other settings than those now.
    """
    _need_product(list(model.facts[FOLDER]), model.spec.head, model.spec.user_tower)
    item_NE, bias_N = torch.from_numpy(arrays.target_NE), torch.from_numpy(arrays.bias_N)
    if rules is not None and rules.boost_N is not None:
        bias_N = bias_N + torch.from_numpy(rules.boost_N)
    build_index(folder, item_NE, bias_N, arrays.candidate_N, settings.ann)


def measured(task: Task, users: DataFrame) -> dict[str, float | int]:
    """Return the run's metrics of the index: its recall against exact scoring on a sample of users.

    Raises SettingsError where the recall is under score.ann.floor.
    """
    settings = task.settings.ann

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for recall, count, exactly in compared_lists(task, batches):
            yield pa.RecordBatch.from_pydict({"recall": [recall], "users": [count], "exactly": [exactly]})

    sample = users.orderBy(F.xxhash64("user_id"), "user_id").limit(settings.sample).select(*USER_COLUMNS)
    parts = sample.sortWithinPartitions("segments").mapInArrow(compare, "recall double, users long, exactly long")
    rows = parts.collect()
    count = sum(row["users"] for row in rows)
    recall = sum(row["recall"] * row["users"] for row in rows) / count if count else 1.0
    if recall < settings.floor:
        more = "probes" if settings.index == "ivf" else "reach"
        raise SettingsError(
            f"the index finds {recall:.3f} of the exact top {task.settings.top_k} of {count} sampled users, less than "
            f"score.ann.floor {settings.floor}; nothing was written",
            f"raise score.ann.{more}, lower score.ann.floor, or set score.ann.index=null",
        )
    return {
        "ann_recall": recall,
        "ann_sample_users": count,
        "ann_sample_users_ranked_exactly": sum(row["exactly"] for row in rows),
    }


def _need_product(members: Sequence[str], head: str, user_tower: str) -> None:
    """Raise SettingsError where a score is more than one product of vectors."""
    if members:
        names = ", ".join(members)
        raise SettingsError(
            f"score.ann.index needs a score that is one product of vectors; this model adds those of {names}",
            "set these of model.collaborative to null and train again, or set score.ann.index=null",
        )
    if not is_product(find(HEADS, "head", head), find(USER_TOWERS, "user tower", user_tower)):
        raise SettingsError(
            f"score.ann.index needs a score that is one product of vectors; that of the head {head} "
            f"with the user tower {user_tower} is not",
            "take model.head=dot and another user tower and train again, or set score.ann.index=null",
        )
