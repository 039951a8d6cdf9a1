"""The alignment model: fusions, losses, towers, heads and collaborative models, each one module and one line here."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from crossweave.errors import SettingsError

# Explicit dicts: a registry filled by decorators is empty on an executor that never imported the module.
COLLABORATIVE: dict[str, str] = {
    "als": "crossweave.alignment.collaborative.als:Als",
    "edlae": "crossweave.alignment.collaborative.edlae:Edlae",
    "graph": "crossweave.alignment.collaborative.graph:Graph",
    "item_knn": "crossweave.alignment.collaborative.item_knn:ItemKnn",
    "propagation": "crossweave.alignment.collaborative.propagation:Propagation",
}
FUSIONS: dict[str, str] = {
    "attention": "crossweave.alignment.fusions.attention:AttentionFusion",
    "bilinear": "crossweave.alignment.fusions.bilinear:BilinearFusion",
    "concat": "crossweave.alignment.fusions.concat:ConcatFusion",
    "gated": "crossweave.alignment.fusions.gated:GatedFusion",
    "transformer": "crossweave.alignment.fusions.transformer:TransformerFusion",
    "weighted": "crossweave.alignment.fusions.weighted:WeightedFusion",
}
HEADS: dict[str, str] = {
    "cosine": "crossweave.alignment.heads.cosine:Cosine",
    "dot": "crossweave.alignment.heads.dot:Dot",
    "fm": "crossweave.alignment.heads.fm:FactorisationMachine",
    "mlp": "crossweave.alignment.heads.mlp:Mlp",
}
LOSSES: dict[str, str] = {
    "adversarial": "crossweave.alignment.losses.adversarial:Adversarial",
    "bpr": "crossweave.alignment.losses.bpr:Bpr",
    "click": "crossweave.alignment.losses.click:Click",
    "coral": "crossweave.alignment.losses.matching:Coral",
    "distillation": "crossweave.alignment.losses.distillation:Distillation",
    "infonce": "crossweave.alignment.losses.infonce:InfoNCE",
    "linear": "crossweave.alignment.losses.linear:Linear",
    "mmd": "crossweave.alignment.losses.matching:Mmd",
    "rating": "crossweave.alignment.losses.rating:Rating",
    "reconstruction": "crossweave.alignment.losses.reconstruction:Reconstruction",
    "sampled_softmax": "crossweave.alignment.losses.sampled_softmax:SampledSoftmax",
}
USER_TOWERS: dict[str, str] = {
    "causal_transformer": "crossweave.alignment.towers.causal_transformer:CausalTransformer",
    "gru": "crossweave.alignment.towers.recurrent:Gru",
    "history_attention": "crossweave.alignment.towers.history_attention:HistoryAttention",
    "id": "crossweave.alignment.towers.id:Id",
    "lstm": "crossweave.alignment.towers.recurrent:Lstm",
    "mean": "crossweave.alignment.towers.mean:Mean",
    "target_attention": "crossweave.alignment.towers.target_attention:TargetAttention",
}


def build(registry: Mapping[str, str], what: str, name: str, *shape: int, **settings: Any) -> Any:
    """Build a part by its name in a registry; raises SettingsError for an unknown name or unfit settings."""
    part = find(registry, what, name)
    try:
        return part(*shape, **settings)
    except TypeError as error:
        raise SettingsError(f"{what} {name}: {error}", f"see the arguments of {registry[name]}") from error


def find(registry: Mapping[str, str], what: str, name: str) -> Any:
    """Return a part's class; raises SettingsError naming the valid names."""
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise SettingsError(f"unknown {what} {name!r}; there are {', '.join(sorted(registry))}", hint)
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
