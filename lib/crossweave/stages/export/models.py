"""The model with a card: as safetensors, or its towers as ONNX graphs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from crossweave import __version__
from crossweave.alignment.blend import FOLDER
from crossweave.alignment.onnx import save_towers
from crossweave.alignment.store import WEIGHTS
from crossweave.redaction import redacted
from crossweave.stages.export.source import Source
from crossweave.storage.location import Location

CARD = """# Alignment model

Made by Crossweave {version} on {date}; trained on tensors {tensors}, best epoch {epoch}
(validation {metric} {value:.4f}).

| | |
|---|---|
| items, users trained on | {items:,}, {users:,} |
| modalities (numbers each) | {modalities} |
| fusion, user tower, head | {fusion}, {tower}, {head} |
| losses (weight) | {losses} |
| size of a vector | {dim} |
| learned user attributes | {attributes} |

## Files

{files}

## Use

Score of a user and an item: user · item + bias. {blend}
Vectors of two models do not fit together: export both sides anew after each training.

## Limits

Learned from the behaviour of this shop's users and from its catalog; what they favour, the model favours. Figures by
groups of users and of items are in the report of the run.
"""
FILES = {
    "model.safetensors": "the weights; `spec.json` says which parts they are of",
    "spec.json": "the architecture",
    "item_tower.onnx": "`vector.MODALITY` (float32 [items, dim]), `present` (bool [items, modalities]), `index` "
    "(int64 [items]) and `known` (bool [items]: has an id vector) → `item`, `bias`, `history`",
    "user_tower.onnx": "`history` (float32 [length, size]: the `history` vectors of what the user took, oldest first), "
    "`attributes` (int64 codes), `index` (int64 [1], −1: unknown) → `user`",
    "collaborative/": "the blended models' arrays",
}


def weights(source: Source, folder: Path) -> tuple[int, int]:
    """Write model.safetensors, spec.json, the blended models and the card."""
    sealed = source.model.sealed
    for name in sealed.files:
        if name == WEIGHTS or name.startswith(f"{FOLDER}/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sealed.path(name), folder / name)
    return _with_card(source, folder)


def graphs(source: Source, folder: Path) -> tuple[int, int]:
    """Write item_tower.onnx, user_tower.onnx, spec.json and the card."""
    save_towers(source.model.load(), folder)
    return _with_card(source, folder)


def _with_card(source: Source, folder: Path) -> tuple[int, int]:
    facts, spec = source.model.facts, source.model.spec.as_json()
    Location.of(folder / "spec.json").put(json.dumps(spec, indent=1))
    blended = facts[FOLDER]
    blend = "It is the neural side alone: " if blended else ""
    if blended:
        blend += "served scores add " + ", ".join(f"{weight:.4g} × {name}" for name, weight in blended.items()) + "."
    there = [name for name in FILES if (folder / name.rstrip("/")).exists()]
    card = CARD.format(
        version=__version__,
        date=source.context.date.isoformat(),
        tensors=facts["tensors"],
        epoch=facts["best_epoch"],
        metric=facts["metric"],
        value=facts["best_metric"],
        items=source.manifest.items,
        users=source.manifest.users,
        modalities=", ".join(f"{name} ({dim})" for name, dim in spec["modalities"]) or "none",
        fusion=spec["fusion"],
        tower=spec["user_tower"],
        head=spec["head"],
        losses=", ".join(f"{name} ({weight:g})" for name, weight in spec["losses"].items()),
        dim=spec["dim"],
        attributes=", ".join(source.manifest.attributes) or "none",
        files="\n".join(f"- `{name}`: {FILES[name]}" for name in there),
        blend=blend,
    )
    Location.of(folder / "README.md").put(redacted(card))
    return 1, 1
