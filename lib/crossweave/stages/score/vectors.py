"""What the item tower says of every item, made once a scoring and mapped into memory by the workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from crossweave.artifacts.model import TrainedModel
from crossweave.artifacts.scored import SCORED, ScoredVectors, save_item_ids
from crossweave.artifacts.sealed import building, open_sealed, publish
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import Manifest
from crossweave.runtime.stage import StageContext
from crossweave.scoring.rules import ItemRules
from crossweave.stages.score.ann import write_index
from crossweave.stages.score.scorer import CANDIDATES, RULES
from crossweave.training.item_tower import all_items


def scored_vectors(
    context: StageContext, manifest: Manifest, model: TrainedModel, rules: ItemRules | None, fingerprint: str
) -> ScoredVectors:
    """Run the item tower, unless it is done; beside its result lie the rules and, where there is one, the index."""
    folder, store = SCORED.place(context.workspace, fingerprint), context.tables
    if open_sealed(SCORED, folder, fingerprint) is None:
        with building(folder) as draft:
            index = store.read(context.spark, "item_index", manifest.versions["item_index"])
            ids = index.orderBy("item_index").select("item_id").toPandas()["item_id"]
            save_item_ids(draft, pa.array(ids, pa.string()))
            save_vectors(model, manifest, draft)
            if rules is not None:
                rules.save(draft / RULES)
            if context.settings.score.ann.index is not None:
                write_index(model, draft, rules, context.settings.score)
            publish(SCORED, draft, folder, fingerprint, {"model": model.folder.name})
    return ScoredVectors.open(folder, fingerprint)


def save_vectors(trained: TrainedModel, manifest: Manifest, folder: Path) -> None:
    """Write what the item tower says of every item of a tensor set; see `ScoredVectors`."""
    items, model = open_items(manifest), trained.load()
    made = all_items(model, items)
    with torch.inference_mode():
        targets = model.targets(made)
    arrays = {
        "target": targets.item_SE,
        "center": targets.item_SE.mean(dim=0),
        "bias": targets.bias_S,
        "history": made.history_SD,
        CANDIDATES: torch.from_numpy(items.candidate_N.copy()),  # torch wants arrays that it may write to
    }
    if targets.query_SD is not None:
        arrays["query"] = targets.query_SD
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.numpy())
