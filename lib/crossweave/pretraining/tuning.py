"""Which weights of an encoder may change: all, those of its last layers, or a small adapter's (through peft)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from crossweave.config.pretraining import Tuning
from crossweave.errors import SettingsError

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|block)\.(\d+)\.")
"""How transformers name their layers: encoder.layer.3.…, h.3.…, layers.3.…"""


def apply_tuning(model: Any, tuning: Tuning, total_steps: int) -> Any:
    """Return the model with the weights that may change marked, and all others frozen.

    `total_steps` is how many optimizer steps there will be, by which AdaLoRA (Zhang et al. 2023) spends its budget.
    Raises SettingsError where the model has no place for such an adapter.
    """
    if tuning.method == "full":
        return model.requires_grad_(True)
    if tuning.method == "last":
        return _open_last_layers(model, tuning.layers)
    return _with_adapter(model, tuning, total_steps)


def trainable_share(model: torch.nn.Module) -> tuple[int, int]:
    """Return how many weights may change, and how many there are."""
    sizes = [(parameter.requires_grad, parameter.numel()) for parameter in model.parameters()]
    return sum(size for open_, size in sizes if open_), sum(size for _, size in sizes)


def is_adapter(tuning: Tuning) -> bool:
    """Say whether a method leaves the weights alone and adds some beside them."""
    return tuning.method not in ("full", "last")


def save_tuned(model: Any, tuning: Tuning, folder: Path, adapter: Path) -> None:
    """Save a tuned encoder: merged or changed weights into `folder`, an adapter that is not merged into `adapter`.

    Prefixes (Li & Liang 2021) are no weights of the model, and are never merged.
    """
    if is_adapter(tuning) and (not tuning.merge or tuning.method == "prefix"):
        model.save_pretrained(str(adapter), safe_serialization=True)
        return
    whole = model.merge_and_unload() if is_adapter(tuning) else model
    whole.save_pretrained(str(folder), safe_serialization=True)


def _open_last_layers(model: Any, count: int) -> Any:
    numbers = [int(found[1]) for name, _ in model.named_parameters() if (found := LAYER.search(name))]
    if not numbers:
        raise SettingsError(
            "tune.method last: the layers of this model are not numbered", "choose full, or an adapter such as lora"
        )
    first = max(numbers) + 1 - count
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        found = LAYER.search(name)
        parameter.requires_grad_(found is not None and int(found[1]) >= first)
    return model


def _with_adapter(model: Any, tuning: Tuning, total_steps: int) -> Any:
    import peft

    kind = peft.TaskType.FEATURE_EXTRACTION
    low: dict[str, Any] = {"lora_alpha": tuning.alpha, "lora_dropout": tuning.dropout}
    if tuning.method == "lora":
        chosen: Any = peft.LoraConfig(task_type=kind, r=tuning.rank, **low)
    elif tuning.method == "adalora":
        low |= {"init_r": tuning.rank, "target_r": max(1, tuning.rank // 2), "total_step": total_steps}
        low |= {"tinit": total_steps // 10, "tfinal": total_steps // 3, "deltaT": 1}
        chosen = peft.AdaLoraConfig(task_type=kind, **low)
    elif tuning.method == "ia3":
        chosen = peft.IA3Config(task_type=kind)
    else:
        chosen = peft.PrefixTuningConfig(task_type=kind, num_virtual_tokens=tuning.virtual_tokens)
    try:
        return peft.get_peft_model(model, chosen)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"tune.method {tuning.method} does not fit a {model.config.model_type}: {error}",
            "choose lora, last or full",
        ) from error
