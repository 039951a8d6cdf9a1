"""Where a rank computes, and how its batches get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from crossweave.errors import SettingsError

Batch = TypeVar("Batch")


def choose_device(name: str, local_rank: int) -> torch.device:
    """Return a rank's device: with `auto` or `cuda`, the ranks of a host share its GPUs in turn.

    Raises SettingsError for `cuda` where there is none.
    """
    gpus = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    if name == "cuda" and not gpus:
        raise SettingsError("train.device is cuda, but this worker sees no GPU", "set train.device to auto or cpu")
    return torch.device("cuda", local_rank % gpus) if gpus else torch.device("cpu")


def move(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with all of its tensors on the device: tuples, mappings and dataclasses of tensors."""
    return batch if device.type == "cpu" else _each_tensor(batch, lambda tensor: tensor.to(device, non_blocking=True))


def widen(batch: Batch) -> Batch:
    """Return a batch whose half-precision tensors are float32."""
    return _each_tensor(batch, lambda t: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t)


def _each_tensor(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_each_tensor(part, change) for part in value)
    if isinstance(value, Mapping):
        return {key: _each_tensor(part, change) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _each_tensor(getattr(value, f.name), change) for f in fields(value) if f.init})
    return value
