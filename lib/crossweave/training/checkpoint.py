"""Checkpoints: safetensors and JSON, never pickle; the JSON is written last and makes the checkpoint exist."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

OPTIMIZER = "optimizer/"
MODEL = "model/"


@dataclass
class TrainingState:
    """Where a training stands after an epoch."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps
    best_metric: float = -1.0
    best_epoch: int = 0
    waited: int = 0  # validations since the best one
    curves: dict[str, list[list[float]]] = field(default_factory=dict)  # name -> [epoch, value] pairs


class Checkpoints:
    """The checkpoints of one training, below one folder."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
        """Write the state after an epoch and drop checkpoints older than the last few."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"epoch-{state.epoch:05d}"
        tensors = {MODEL + key: value.contiguous() for key, value in model.state_dict().items()}
        tensors |= _flatten(optimizer)
        _save_tensors(tensors, self._folder / f"{name}.safetensors")
        save_text(json.dumps(asdict(state)), self._folder / f"{name}.json")
        for old in self._finished()[: -self._keep]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def save_best(self, model: torch.nn.Module) -> None:
        """Write the weights of the best validation so far."""
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
        _save_tensors(tensors, self.best)

    @property
    def best(self) -> Path:
        """Where the best weights lie."""
        return self._folder / "best.safetensors"

    def newest(self) -> str | None:
        """Name the newest finished checkpoint; None where there is none."""
        finished = self._finished()
        return finished[-1].stem if finished else None

    def restore(self, name: str | None, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
        """Load a finished checkpoint into model and optimizer; without one, return a fresh state."""
        if name is None:
            return TrainingState()
        tensors = load_file(self._folder / f"{name}.safetensors")
        weights = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)}
        model.load_state_dict(weights)
        _unflatten(optimizer, {k.removeprefix(OPTIMIZER): v for k, v in tensors.items() if k.startswith(OPTIMIZER)})
        return TrainingState(**json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8")))

    def _finished(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("epoch-*.json") if path.with_suffix(".safetensors").is_file())


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{OPTIMIZER}{number}/{key}": torch.as_tensor(value).contiguous()
        for number, entries in state.items()
        for key, value in entries.items()
    }


def _unflatten(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    whole = optimizer.state_dict()
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split("/", 1)
        state.setdefault(int(number), {})[key] = tensor
    whole["state"] = state
    optimizer.load_state_dict(whole)


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.new")
    save_file(tensors, temporary)
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)


def save_text(text: str, path: Path) -> None:
    """Write a text file that is there as a whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
