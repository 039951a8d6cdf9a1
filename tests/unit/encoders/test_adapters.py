"""Adapters that peft saved, in front of a real transformers model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from tiny import tiny_bert, tiny_gpt

from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.huggingface import import_transformers
from crossweave.errors import SettingsError

TEXTS = ["red shirt", "blue pan, steel", "cotton the shirt"]
LOW = {"task_type": "FEATURE_EXTRACTION", "r": 4, "lora_alpha": 64, "target_modules": ["query", "value"]}
CONFIGS: dict[str, Callable[[], Any]] = {
    "lora": lambda: peft.LoraConfig(**LOW, init_lora_weights=False),
    "adalora": lambda: peft.AdaLoraConfig(**LOW, total_step=10, init_lora_weights=False),
    "ia3": lambda: peft.IA3Config(
        task_type="FEATURE_EXTRACTION",
        target_modules=["key", "value"],
        feedforward_modules=[],
        init_ia3_weights=False,
    ),
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def adapted(base: Path, config: Any, folder: Path) -> tuple[Any, Path]:
    """Return a model as peft runs it, with random weights in its adapter, and where the adapter was saved."""
    torch.manual_seed(5)
    model = peft.get_peft_model(import_transformers().AutoModel.from_pretrained(str(base)), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if "ia3" in name else 0.0))
    model.save_pretrained(str(folder), safe_serialization=True)
    return model.eval(), folder


def encoder(base: Path, adapter: Path | None, **own: Any) -> Encoder:
    given = {"path": str(base), "precision": "float32", "backend": "eager", **own}
    return make_encoder("text", "transformer", given | ({} if adapter is None else {"adapter": str(adapter)}))


def vectors(chosen: Encoder) -> np.ndarray:
    chosen.load()
    prepared = chosen.prepare(TEXTS)
    assert not prepared.failures
    return chosen.encode(prepared.examples)


@pytest.mark.parametrize("kind", CONFIGS)
def test_vectors_are_those_of_peft_s_own_model(kind: str, bert: Path, tmp_path: Path) -> None:
    model, folder = adapted(bert, CONFIGS[kind](), tmp_path / "adapter")
    chosen = encoder(bert, folder, pooling="cls")
    found = vectors(chosen)
    with torch.inference_mode():
        for text, vector in zip(TEXTS, found, strict=True):
            (ids,) = chosen.prepare([text]).examples
            states = model(input_ids=torch.tensor(ids)[None]).last_hidden_state
            np.testing.assert_allclose(vector, states[0, 0].numpy(), atol=1e-5)
    plain = vectors(encoder(bert, None, pooling="cls"))
    assert np.abs(found - plain).max() > 1e-3


def test_an_adapter_made_under_a_head_is_the_encoder_s_too(bert: Path, tmp_path: Path) -> None:
    model, folder = adapted(bert, CONFIGS["lora"](), tmp_path / "plain")
    transformers = import_transformers()
    headed = transformers.AutoModelForMaskedLM.from_pretrained(str(bert))
    low = {**LOW, "task_type": None}
    headed = peft.get_peft_model(headed, peft.LoraConfig(**low, init_lora_weights=False))
    with torch.no_grad():
        own = dict(model.named_parameters())
        for name, parameter in headed.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(own[name.replace(".bert.", ".")])
    headed.save_pretrained(str(tmp_path / "headed"), safe_serialization=True)
    np.testing.assert_allclose(vectors(encoder(bert, tmp_path / "headed")), vectors(encoder(bert, folder)), atol=1e-6)


def test_a_prefix_in_front_of_a_decoder_counts(tmp_path: Path) -> None:
    base = tiny_gpt(tmp_path / "gpt")
    prefix = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=3)
    model, folder = adapted(base, prefix, tmp_path / "adapter")
    chosen = encoder(base, folder)
    found = vectors(chosen)
    with torch.inference_mode():
        for text, vector in zip(TEXTS, found, strict=True):
            (ids,) = chosen.prepare([text]).examples
            given = torch.tensor(ids)[None]
            states = model(input_ids=given, attention_mask=torch.ones_like(given)).last_hidden_state
            np.testing.assert_allclose(vector, states[0, -1].numpy(), atol=1e-5)
    assert np.abs(found - vectors(encoder(base, None))).max() > 0.01


def test_the_adapter_s_content_and_not_its_place_is_in_the_fingerprint(bert: Path, tmp_path: Path) -> None:
    _, folder = adapted(bert, CONFIGS["lora"](), tmp_path / "adapter")
    copy = shutil.copytree(folder, tmp_path / "copy")
    one, same, none = (encoder(bert, place).fingerprint for place in (folder, copy, None))
    assert one == same != none
    changed = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(changed | {"lora_alpha": 1}))
    assert encoder(bert, copy).fingerprint != one


def test_an_adapter_of_another_model_is_refused(bert: Path, tmp_path: Path) -> None:
    _, folder = adapted(bert, peft.LoraConfig(**{**LOW, "layers_to_transform": [0]}), tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"layers_to_transform": None}))
    with pytest.raises(SettingsError, match="was made for another model"):
        encoder(bert, folder).load()
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["nothing"]}))
    with pytest.raises(SettingsError, match="does not fit the model"):
        encoder(bert, folder).load()


def test_a_poisoned_folder_is_refused_before_anything_of_it_is_read(bert: Path, tmp_path: Path) -> None:
    _, folder = adapted(bert, CONFIGS["lora"](), tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(SettingsError, match="pickled weights only"):
        encoder(bert, folder).identity  # noqa: B018
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04no tensors")
    with pytest.raises(SettingsError, match="not a whole safetensors file"):
        encoder(bert, folder).identity  # noqa: B018
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "XLORA"}))
    with pytest.raises(SettingsError, match="kind XLORA"):
        encoder(bert, folder).identity  # noqa: B018
    with pytest.raises(SettingsError, match="no directory"):
        encoder(bert, tmp_path / "nowhere").identity  # noqa: B018
