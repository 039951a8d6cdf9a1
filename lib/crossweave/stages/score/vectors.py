"""What the item tower says of every item, made once a scoring and mapped into memory by the workers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from crossweave.artifacts.model import TrainedModel
from crossweave.artifacts.scored import SCORED, ItemArrays, ScoredVectors, save_item_ids
from crossweave.artifacts.sealed import building, open_sealed, publish
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import Manifest
from crossweave.runtime.stage import StageContext
from crossweave.scoring.rules import ItemRules
from crossweave.stages.score.ann import write_index
from crossweave.stages.score.scorer import RULES
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
            arrays = item_arrays(model, manifest)
            arrays.save(draft)
            if rules is not None:
                rules.save(draft / RULES)
            if context.settings.score.ann.index is not None:
                write_index(model, arrays, draft, rules, context.settings.score)
            publish(SCORED, draft, folder, fingerprint, {"model": model.folder.name})
    return ScoredVectors.open(folder, fingerprint)


def item_arrays(trained: TrainedModel, manifest: Manifest) -> ItemArrays:
    """Return what the item tower says of every item of a tensor set."""
    items, model = open_items(manifest), trained.load()
    made = all_items(model, items)
    with torch.inference_mode():
        targets = model.targets(made)
    return ItemArrays(
        targets.item_SE.numpy(),
        targets.item_SE.mean(dim=0).numpy(),
        targets.bias_S.numpy(),
        made.history_SD.numpy(),
        np.array(items.candidate_N),
        targets.query_SD.numpy() if targets.query_SD is not None else None,
    )
