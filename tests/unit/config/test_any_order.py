"""In which order attributes, modalities, encoders, losses and members of the blend are written decides nothing."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.user_parts import UserAttributes, UserBatch
from crossweave.config import Settings, load_settings
from crossweave.config.load import REPOSITORY_CONF
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.stages.tensors import TENSORS
from crossweave.storage.records import digest
from crossweave.tables.receipt_details import Feature
from crossweave.training.planning import model_facts

NAMES = ["age_group", "country", "gender", "x9", "zip"]
PARTS = {
    "losses": {"sampled_softmax": 1.0, "infonce": 0.05, "coral": 0.1, "bpr": 0.2},
    "loss_settings": {"infonce": {"modality_pairs": 2}, "bpr": {}},
    "collaborative": {"edlae": {"ridge": 3.0, "dropout": 0.4}, "item_knn": {}, "als": {"rank": 4, "alpha": 2.0}},
}
SHUFFLES = st.randoms(use_true_random=False)


@functools.cache
def plain() -> dict[str, Any]:
    """The demo's settings with more of everything whose order might mean something."""
    values = load_settings([REPOSITORY_CONF / "local.yaml"]).model_dump()
    values["model"] |= PARTS
    values["inputs"]["users"]["attributes"] = list(NAMES)
    columns = {name: {"as": kind} for name, kind in (("price", "number"), ("brand", "category"), ("year", "number"))}
    values["encoders"]["facts"] = {"type": "tabular", "columns": columns}
    values["modalities"]["facts"] = {"kind": "attributes", "columns": list(columns), "encoder": "facts"}
    return values


def shuffled(value: Any, random: Random) -> Any:
    """A value with every mapping in it in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], random) for key in random.sample(list(value), len(value))}
    return value


def written(random: Random | None) -> Settings:
    """The settings in the order of a shuffle, users' attributes too; in their own without one."""
    values = shuffled(plain(), random) if random else plain()
    users = values["inputs"]["users"]
    attributes = random.sample(NAMES, len(NAMES)) if random else NAMES
    return Settings.model_validate(
        values | {"inputs": values["inputs"] | {"users": users | {"attributes": attributes}}}
    )


def as_text(of: Settings) -> str:
    """What is kept of the settings, in its order, but for the one list that is kept as it was written."""
    return json.dumps(of.model_dump(mode="json", exclude={"inputs": {"users": {"attributes"}}}))


def manifest_of(folder: Path, attributes: dict[str, tuple[str, ...]], modalities: dict[str, int]) -> Manifest:
    made = Manifest(folder, "f", modalities, 5, 4, (), (), attributes)
    made.save()
    loaded = load_manifest(folder)
    assert loaded is not None
    return loaded


def tensors_fingerprint(of: Settings) -> str:
    """That of the tensors of a night whose vectors were listed as the settings list their modalities."""
    features = {name: Feature(f"features/{name}", "e", 4) for name in of.modalities}
    writes = {"catalog": 1, "history": 1, "users": 1} | {feature.table: 1 for feature in features.values()}
    receipts = SimpleNamespace(required=lambda stage: SimpleNamespace(writes=writes, details=features))
    context: Any = SimpleNamespace(settings=of, receipts=receipts, tables=SimpleNamespace(identities=dict))
    return TENSORS.basis(context).fingerprint


@given(SHUFFLES)
@settings(max_examples=25, deadline=None)
def test_settings_written_in_any_order_are_the_same_settings_and_name_the_same_tensors(random: Random) -> None:
    one, other = written(None), written(random)
    assert as_text(other) == as_text(one)
    assert tensors_fingerprint(other) == tensors_fingerprint(one)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifest")


@given(SHUFFLES)
@settings(max_examples=15, deadline=None)
def test_a_code_is_a_vector_of_its_own_attribute_in_whatever_order_codes_stand(folder: Path, random: Random) -> None:
    names = random.sample(NAMES, len(NAMES))
    values = {name: tuple(f"{name} {n}" for n in range(NAMES.index(name) + 1)) for name in names}
    sizes = {name: NAMES.index(name) + 3 for name in names}  # none, another one, and its values
    manifest = manifest_of(folder, values, dict.fromkeys(names, 2))
    of = written(random)
    facts = model_facts(of, manifest)["model"]
    spec = ModelSpec.from_json(json.loads(json.dumps(facts, sort_keys=True)))  # as a file may have them
    assert list(manifest.attributes) == list(spec.user_attributes) == list(spec.modalities) == names
    assert spec.user_attributes == sizes

    vectors = {name: 100.0 * NAMES.index(name) + torch.arange(size) for name, size in sizes.items()}
    part = UserAttributes(list(spec.user_attributes.values()), 1, 0.0)
    with torch.no_grad():
        part.vectors.weight[:] = torch.cat([vectors[name] for name in names])[:, None]
    codes = {name: random.randrange(size) for name, size in sizes.items()}
    who = UserBatch(torch.tensor([0]), torch.tensor([[codes[name] for name in manifest.attributes]]))
    assert part(who).item() == sum(vectors[name][codes[name]] for name in NAMES)


@given(SHUFFLES)
@settings(max_examples=15, deadline=None)
def test_models_of_settings_in_any_order_are_one_model(folder: Path, random: Random) -> None:
    manifest = manifest_of(folder, {"country": ("a", "b")}, {"text": 2})
    assert digest(model_facts(written(random), manifest)) == digest(model_facts(written(None), manifest))
