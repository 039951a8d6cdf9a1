"""Adapters beside a model's weights, as peft saves them: LoRA, AdaLoRA, IA³ and prefixes, read from local folders.

Nothing of the folder is run: weights are safetensors, and of the configuration only what is known is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crossweave.encoders.weights import hash_files, load_state, read_json, safetensors_in
from crossweave.errors import SettingsError

WHAT = "encoder.adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MERGED = ("LORA", "ADALORA", "IA3")
"""Kinds whose effect is added to the weights once, so that encoding costs what it did."""
KINDS = (*MERGED, "PREFIX_TUNING")
OWN = ("lora_", "ia3_")
"""How the names of an adapter's own weights begin."""


def hash_adapter(folder: Path) -> str:
    """Hex SHA-256 of what an adapter adds. Raises SettingsError where it is missing, pickled or of an unknown kind."""
    _kind(folder)
    return hash_files([(name, folder / name) for name in (CONFIG, WEIGHTS)])


def with_adapter(model: Any, folder: Path) -> Any:
    """A model with an adapter in it, in evaluation mode. Raises SettingsError where the two do not fit."""
    import peft

    kind = _kind(folder)
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.inference_mode, config.auto_mapping, config.revision = True, None, None
    config.base_model_name_or_path = ""  # the model is here, whatever its name was where the adapter was made
    config.task_type = peft.TaskType.FEATURE_EXTRACTION
    try:
        adapted = peft.PeftModelForFeatureExtraction(model, config)
        state = _of_encoder(load_state(folder / WEIGHTS, WHAT), model.base_model_prefix)
        found: Any = peft.set_peft_model_state_dict(adapted, state)
    except Exception as error:  # peft raises whatever its files lead it to
        raise SettingsError(f"{WHAT}: the adapter in {str(folder)!r} does not fit the model ({error})") from error
    # What is missing of a model is its own weights, but for the adapter's; peft puts a prefix in its place itself.
    missing = {name for name in found.missing_keys if any(part.startswith(OWN) for part in name.split("."))}
    lost = (missing | set(found.unexpected_keys)) - {"prompt_embeddings"}
    if lost:
        raise SettingsError(
            f"{WHAT}: the adapter in {str(folder)!r} was made for another model: {', '.join(sorted(lost)[:3])}"
            f" ({len(lost)} in all) do not fit"
        )
    return (adapted.merge_and_unload() if kind in MERGED else adapted).eval()


def _of_encoder(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The weights that the encoder itself takes, of an adapter that may have been made with a head on top of it."""
    inside = f"base_model.model.{prefix}."
    if not any(name.startswith(inside) for name in state):
        return dict(state)
    return {f"base_model.model.{n.removeprefix(inside)}": value for n, value in state.items() if n.startswith(inside)}


def _kind(folder: Path) -> str:
    if not folder.is_dir():
        raise SettingsError(f"{WHAT}: there is no directory {str(folder)!r}")
    config = read_json(folder / CONFIG, WHAT)
    kind = str(config.get("peft_type")) if isinstance(config, dict) else "none"
    if kind not in KINDS:
        raise SettingsError(f"{WHAT}: {str(folder)!r} holds an adapter of kind {kind}; expected {', '.join(KINDS)}")
    safetensors_in(folder, WEIGHTS, WHAT, "adapter")
    return kind
