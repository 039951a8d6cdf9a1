"""Checkpoints: safetensors and JSON, never pickle; the JSON is written last and makes the checkpoint exist."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from crossweave.storage.copies import FileMark, mark_file, verified
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_json, write_json
from crossweave.training.collective import Collective, Stateful

CHECKPOINTS = "checkpoints"  # in the folder of a training
BEST = "best.safetensors"
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

    def __init__(self, folder: Place, keep: int, minutes: float = math.inf) -> None:
        self._folder, self._keep, self._seconds = Location.of(folder), keep, 60.0 * minutes
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is older than the minutes."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, model: Stateful, optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
        """Write the state after a step and drop checkpoints older than the last few."""
        name = f"step-{state.step:09d}"
        tensors = {MODEL + key: value.contiguous() for key, value in model.state_dict().items()}
        with self._tensors(name).placing() as path:
            save_file(tensors | _flatten(optimizer), path)
            mark = mark_file(path)
        write_json(self._folder / f"{name}.json", {"mark": asdict(mark), "state": asdict(state)})
        for old in self._finished()[: -self._keep]:
            self._remove(old)
        self._saved = time.monotonic()

    def save_best(self, model: Stateful) -> None:
        """Write the weights of the best validation so far."""
        tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
        with (self._folder / BEST).placing() as path:
            save_file(tensors, path)

    def hand_over(self, place: Location) -> None:
        """Copy the best weights to their last place."""
        with place.placing() as path:
            (self._folder / BEST).download(path)

    def newest(self, warn: Callable[[str], None]) -> str | None:
        """Name the newest checkpoint that is whole; None where there is none. Damaged ones are told of and removed."""
        for name in reversed(self._finished()):
            try:
                self._whole(name)
                return name
            except (OSError, ValueError, KeyError, TypeError):
                warn(f"checkpoint {name} in {self._folder} is damaged; going on from the one before it")
                self._remove(name)
        return None

    def restore(self, name: str | None, model: Stateful, optimizer: torch.optim.Optimizer) -> TrainingState:
        """Load a whole checkpoint into model and optimizer; without one, return a fresh state."""
        if name is None:
            return TrainingState()
        path, state = self._whole(name)
        tensors = load_file(path)
        weights = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)}
        model.load_state_dict(weights)
        _unflatten(optimizer, {k.removeprefix(OPTIMIZER): v for k, v in tensors.items() if k.startswith(OPTIMIZER)})
        return state

    def resume(
        self, collective: Collective, model: Stateful, optimizer: torch.optim.Optimizer, warn: Callable[[str], None]
    ) -> TrainingState:
        """Go on from the newest whole checkpoint, every rank from the same one; returns where that was."""
        # Every rank reads the checkpoint that rank 0 found (the folder is shared), then gets rank 0's values.
        newest = collective.from_first(self.newest(warn) if collective.rank == 0 else None)
        state = self.restore(newest, model, optimizer)
        collective.start_equal(model, optimizer)
        return state

    def _whole(self, name: str) -> tuple[Path, TrainingState]:
        """Return a checkpoint's tensors, on this machine, and its state; raises ArtifactError where it is damaged."""
        written = read_json(self._folder / f"{name}.json")
        path = verified(self._tensors(name), FileMark(**written["mark"]), "checkpoint", "it is passed over")
        return path, TrainingState(**written["state"])

    def _tensors(self, name: str) -> Location:
        return self._folder / f"{name}.safetensors"

    def _finished(self) -> list[str]:
        names = {place.name for place in self._folder.children()}
        steps = sorted(name.removesuffix(".json") for name in names if re.fullmatch(r"step-\d+\.json", name))
        return [name for name in steps if f"{name}.safetensors" in names]

    def _remove(self, name: str) -> None:
        (self._folder / f"{name}.json").remove()
        self._tensors(name).remove()


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
