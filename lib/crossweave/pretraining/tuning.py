"""Which weights of an encoder may change: all, those of its last layers, or a small adapter's (through peft)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from crossweave.config.pretraining import Tuning
from crossweave.encoders.neural import TrainableEncoder
from crossweave.errors import SettingsError

LAYER = re.compile(r"(?:^|\.)(?:(?:layers?|h|blocks?|features)\.(?:encoder_layer_)?|layer|stage)(\d+)\.")
"""How layers are named: encoder.layer.3.…, h.3.…, layers.3.…, and by torchvision features.3.…, layer3.… and stage3.…"""


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


def stays_beside(tuning: Tuning) -> bool:
    """Say whether what is learned is left beside the weights; prefixes (Li & Liang 2021) are no weights of a model."""
    return is_adapter(tuning) and (not tuning.merge or tuning.method == "prefix")


def save_tuned(encoder: TrainableEncoder, network: Any, tuning: Tuning, folder: Path, adapter: Path) -> None:
    """Save a tuned network: into `folder` as its encoder reads it, or into `adapter` what stays beside the weights."""
    if stays_beside(tuning):
        network.save_pretrained(str(adapter), safe_serialization=True)
    else:
        encoder.save(network.merge_and_unload() if is_adapter(tuning) else network, folder)


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

    low: dict[str, Any] = {"lora_alpha": tuning.alpha, "lora_dropout": tuning.dropout}
    named: dict[str, Any] = {"task_type": peft.TaskType.FEATURE_EXTRACTION}
    if getattr(model, "main_input_name", None) != "input_ids":  # peft knows the layers of language models
        named = {"target_modules": _adaptable(model)}
    budget: dict[str, Any] = {"init_r": tuning.rank, "target_r": max(1, tuning.rank // 2), "total_step": total_steps}
    budget |= {"tinit": total_steps // 10, "tfinal": total_steps // 3, "deltaT": 1}
    try:
        if tuning.method == "lora":
            chosen: Any = peft.LoraConfig(r=tuning.rank, **low, **named)
        elif tuning.method == "adalora":
            chosen = peft.AdaLoraConfig(**budget, **low, **named)
        elif tuning.method == "ia3":
            chosen = peft.IA3Config(**named)
        else:
            chosen = peft.PrefixTuningConfig(num_virtual_tokens=tuning.virtual_tokens, **named)
        return peft.get_peft_model(model, chosen)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = model.config.model_type if hasattr(model, "config") else type(model).__name__
        raise SettingsError(
            f"tune.method {tuning.method} does not fit a {kind}: {error}", "choose lora, last or full"
        ) from error


def _adaptable(model: torch.nn.Module) -> list[str]:
    """Name the matrices of a network, and the kernels that mix channels without skipping pixels.

    Torch's own attention reads its matrices past any adapter.
    """
    attentions = [f"{n}." for n, m in model.named_modules() if isinstance(m, torch.nn.MultiheadAttention)]
    return [
        name
        for name, module in model.named_modules()
        if not name.startswith(tuple(attentions))
        and (
            isinstance(module, torch.nn.Linear)
            or (isinstance(module, torch.nn.Conv2d) and module.groups == 1 and max(module.stride) == 1)
        )
    ]
