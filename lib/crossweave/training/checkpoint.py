"""Checkpoints: safetensors and JSON, never pickle; the JSON is written last and makes the checkpoint exist."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

OPTIMIZER = "optimizer/"
MODEL = "model/"


@dataclass
class TrainingState:
    """Where a training stands after a step."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished optimizer steps
    epoch_step: int = 0  # those of the epoch under way
    epoch_steps: int = 0  # and how many it has; a rank that is lost changes it
    sums: dict[str, float] = field(default_factory=dict)  # the epoch's share of its means so far
    best_metric: float = -1.0
    best_epoch: int = 0
    waited: int = 0  # validations since the best one
    curves: dict[str, list[list[float]]] = field(default_factory=dict)  # name -> [epoch, value] pairs
    scaler: dict[str, float] = field(default_factory=dict)  # of fp16 losses
    feed_seconds: float = 0.0  # rank 0 waited for batches
    compute_seconds: float = 0.0  # rank 0 took steps

    def of_steps(self, steps: int) -> None:
        """Say how many steps an epoch has; an epoch under way goes on at the same share of them."""
        if self.epoch_step and steps != self.epoch_steps:
            done = math.ceil(self.epoch_step * steps / self.epoch_steps)
            grown = (done / steps) / (self.epoch_step / self.epoch_steps)
            self.sums = {name: value * grown for name, value in self.sums.items()}
            self.epoch_step = done
        self.epoch_steps = steps


class Checkpoints:
    """The checkpoints of one training, below one folder; one is due some minutes after the last."""

    def __init__(self, folder: Path, keep: int, minutes: float = math.inf) -> None:
        self._folder, self._keep, self._seconds = folder, keep, 60.0 * minutes
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is older than the minutes."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
        """Write the state after a step and drop checkpoints older than the last few."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{state.step:09d}.safetensors"
        tensors = {MODEL + key: value.contiguous() for key, value in model.state_dict().items()}
        _save_tensors(tensors | _flatten(optimizer), path)
        save_text(json.dumps({"sha256": _digest(path), "state": asdict(state)}), path.with_suffix(".json"))
        for old in self._finished()[: -self._keep]:
            _remove(old)
        self._saved = time.monotonic()

    def save_best(self, model: torch.nn.Module) -> None:
        """Write the weights of the best validation so far."""
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
        _save_tensors(tensors, self.best)

    @property
    def best(self) -> Path:
        """Where the best weights lie."""
        return self._folder / "best.safetensors"

    def newest(self, warn: Callable[[str], None]) -> str | None:
        """Name the newest checkpoint that is whole; None where there is none. Damaged ones are told of and removed."""
        for path in reversed(self._finished()):
            try:
                whole = json.loads(path.read_text(encoding="utf-8"))["sha256"] == _digest(
                    path.with_suffix(".safetensors")
                )
            except (OSError, ValueError, KeyError, TypeError):
                whole = False
            if whole:
                return path.stem
            warn(f"checkpoint {path.stem} in {self._folder} is damaged; going on from the one before it")
            _remove(path)
        return None

    def restore(self, name: str | None, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
        """Load a whole checkpoint into model and optimizer; without one, return a fresh state."""
        if name is None:
            return TrainingState()
        tensors = load_file(self._folder / f"{name}.safetensors")
        weights = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)}
        model.load_state_dict(weights)
        _unflatten(optimizer, {k.removeprefix(OPTIMIZER): v for k, v in tensors.items() if k.startswith(OPTIMIZER)})
        return TrainingState(**json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))["state"])

    def _finished(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("step-*.json") if path.with_suffix(".safetensors").is_file())


def _remove(checkpoint: Path) -> None:
    checkpoint.unlink(missing_ok=True)
    checkpoint.with_suffix(".safetensors").unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
