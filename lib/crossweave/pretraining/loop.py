"""The pretraining loop of one rank: an objective's loss on a share of the corpus, judged on what was held out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from crossweave.alignment import find
from crossweave.errors import InputContractError, TrainingDivergedError
from crossweave.pretraining.learnable import Learnable
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import Corpus, Objective
from crossweave.pretraining.plan import PretrainPlan
from crossweave.pretraining.student import become_student
from crossweave.pretraining.tuning import apply_tuning, save_tuned, trainable_share
from crossweave.training.checkpoint import CHECKPOINTS, Checkpoints
from crossweave.training.collective import Collective
from crossweave.training.device import choose_device, move
from crossweave.training.precision import Precision
from crossweave.training.record import TrainingRecord
from crossweave.training.schedule import learning_rate

WEIGHTS = "learned.safetensors"
"""The best weights, in the folder of the pretraining."""


@dataclass(frozen=True)
class PretrainOutcome:
    """What a pretraining ended with."""

    first_loss: float  # on what was held out, before the first step
    best_loss: float
    best_epoch: int
    epochs: int
    steps: int
    resumed_from: int  # steps that an earlier, interrupted start had taken
    learns: int  # weights that could change
    weights: int
    curves: dict[str, list[list[float]]] = field(default_factory=dict)


def build_objective(plan: PretrainPlan, total_steps: int) -> Objective[Any]:
    """Load the encoder, mark what may change, and put the objective on it; the same on every rank."""
    task, kind, encoder = plan.task, find(OBJECTIVES, "objective", plan.task.objective), plan.encoder_here()
    torch.manual_seed(plan.seed)
    network: Any = encoder.network()
    masks = become_student(network, task.student) if task.student is not None else {}
    if task.gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    tuned = apply_tuning(network, task.tune, total_steps)
    objective: Objective[Any] = kind(encoder, tuned, kind.Settings(**task.own), plan.width)
    objective.masks = masks
    return objective


def save_best(plan: PretrainPlan, learned: Path, folder: Path, adapter: Path) -> None:
    """Save the encoder with the best weights: into `folder`, or beside it where an adapter is not merged."""
    objective = build_objective(plan, total_steps=1)
    Learnable(objective, objective.network).load_state_dict(load_file(learned))
    save_tuned(objective.encoder, objective.network, plan.task.tune, folder, adapter)
    if adapter.is_dir() and plan.files is not None:  # it is for what an earlier step learned
        objective.encoder.copy_files(folder)


class Pretrainer:
    """One rank: its share of the corpus, the objective and its place in the pretraining.

    `corpus` and `held_out` are this rank's shares; both are first cut to what the objective can learn from. Raises
    InputContractError where a rank has nothing to learn from, or nobody has anything to judge by.
    """

    def __init__(self, plan: PretrainPlan, collective: Collective, corpus: Corpus, held_out: Corpus) -> None:
        torch.set_num_threads(plan.threads)
        self.plan, self.task, self.collective = plan, plan.task, collective
        self.device = choose_device(plan.device, collective.local_rank)
        self.precision = Precision(plan.task.precision, self.device)
        kind = find(OBJECTIVES, "objective", plan.task.objective)
        self.corpus, self.held_out = kind.usable(corpus), kind.usable(held_out)
        if kind.reads_histories:
            takers = collective.sum(self.corpus.took(), "takers")
            self.corpus, self.held_out = replace(self.corpus, takers=takers), replace(self.held_out, takers=takers)
        self.examples, self.judged = kind.examples(self.corpus), kind.examples(self.held_out)
        total, judged, idle = collective.sum(np.array([self.examples, self.judged, self.examples == 0]), "examples")
        if idle or not judged:
            raise InputContractError(
                f"{plan.task.objective}: {total:.0f} examples for {collective.size} ranks, {judged:.0f} to judge by",
                "check the modality's column, or use fewer ranks",
            )
        self.steps = max(1, int(total) // (self.task.batch * self.task.accumulate * collective.size))
        self.objective = build_objective(plan, self.steps * self.task.max_epochs).to(self.device)
        self.objective.gather, self.objective.autocast = collective.gather, self.precision.half
        self.learnable = Learnable(self.objective, self.objective.network)
        adam = torch.optim.AdamW(_groups(self.objective, plan.task.weight_decay), lr=self.task.learning_rate)
        self.optimizer = collective.distribute(adam, self.objective, passes=self.task.accumulate)
        self._resume()

    def _resume(self) -> None:
        plan = self.plan
        self.checkpoints = Checkpoints(plan.folder / CHECKPOINTS, plan.keep_checkpoints, plan.checkpoint_minutes)
        warnings: list[str] = []
        self.state = self.checkpoints.resume(self.collective, self.learnable, self.optimizer, warnings.append)
        self.precision.restore(self.state.scaler)
        self.resumed_from = self.state.step
        self.record = TrainingRecord(plan, self.collective.rank, self.state.epoch + 1)
        for text in warnings:
            self.record.line({"warning": text})

    def run(self) -> PretrainOutcome:
        """Learn until the held-out loss stops falling; the best weights go to the folder of the pretraining."""
        state, task = self.state, self.task
        try:
            if not state.step:
                self._judge()  # of the encoder as it came: it may be the best
            while state.epoch < task.max_epochs and state.waited < task.patience:
                self._epoch()
        finally:
            self.record.close()
        if self.collective.rank == 0:
            self.checkpoints.hand_over(self.plan.folder / WEIGHTS)
        self.collective.wait()
        losses = state.curves["held_out"]
        learns, weights = trainable_share(self.objective.network)
        return PretrainOutcome(
            losses[0][1],
            min(loss for _, loss in losses),
            state.best_epoch,
            state.epoch,
            state.step,
            self.resumed_from,
            learns,
            weights,
            state.curves,
        )

    def _epoch(self) -> None:
        state, started = self.state, time.perf_counter()
        order = self.plan.draws(state.epoch, self.collective.rank).permutation(self.examples)
        self.objective.train()
        while state.epoch_step < self.steps:
            loss, due = self._step(order)
            state.sums["loss"] = state.sums.get("loss", 0.0) + loss / self.steps
            state.step += 1
            state.epoch_step += 1
            if due and state.epoch_step < self.steps:
                self._save()
        loss, state.sums, state.epoch_step = state.sums["loss"], {}, 0
        state.epoch += 1
        state.curves.setdefault("loss", []).append([state.epoch, loss])
        held_out = self._judge()
        shown = {"loss": loss, "held_out": held_out, "seconds": time.perf_counter() - started}
        self.record.scalars(state.epoch, shown | {"learning_rate": self.optimizer.param_groups[0]["lr"]})
        self.record.flush()
        self._save()
        self.record.line({"epoch": state.epoch, **shown})

    def _step(self, order: np.ndarray) -> tuple[float, bool]:
        """Take one optimizer step on the mean gradient of the batches of all ranks.

        Returns their mean loss, and whether a checkpoint is due: by one clock, so that all ranks agree.
        """
        task, state = self.task, self.state
        passes = self.collective.size * task.accumulate
        rate = learning_rate(task, passes, state.step, self.steps * task.max_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        total = 0.0
        for number in range(task.accumulate):
            draws = self.plan.draws(state.epoch, self.collective.rank, state.epoch_step, number)
            torch.manual_seed(int(draws.integers(2**31)))  # of dropout and the like
            first = (state.epoch_step * task.accumulate + number) * task.batch
            chosen = order[np.arange(first, first + min(task.batch, len(order))) % len(order)]
            loss = self.objective(move(self.objective.draw(self.corpus, chosen, draws), self.device))
            total += loss.item() / task.accumulate
            self.precision.backward(loss / task.accumulate)
        self.optimizer.synchronize()
        self.precision.clip(self.optimizer, self.objective, task.clip_norm)
        with self.optimizer.skip_synchronize():
            self.precision.step(self.optimizer)
        self.objective.constrain()
        if task.tune.method == "adalora":
            self.objective.network.base_model.update_and_allocate(state.step + 1)
        due = self.collective.rank == 0 and self.checkpoints.due
        whole, due_ranks = self.collective.sum(np.array([total, due]), "loss")
        mean = float(whole) / self.collective.size
        if not math.isfinite(mean):
            raise TrainingDivergedError(
                f"the loss is not finite after {state.step} steps", "lower the task's learning_rate or clip_norm"
            )
        return mean, due_ranks > 0

    def _judge(self) -> float:
        """Return the mean loss of what all ranks held out, drawn alike after every epoch, and keep the best weights."""
        state, batch = self.state, self.task.batch
        self.objective.eval()
        sums = np.zeros(2)
        with torch.no_grad():
            for first in range(0, self.judged, batch):
                chosen = np.arange(first, min(first + batch, self.judged))
                draws = self.plan.draws(first)
                torch.manual_seed(int(draws.integers(2**31)))  # of what is drawn on the way
                drawn = self.objective.draw(self.held_out, chosen, draws)
                sums += np.array([self.objective(move(drawn, self.device)).item() * len(chosen), len(chosen)])
        total, count = self.collective.sum(sums, "held_out")
        loss = float(total / count)
        state.curves.setdefault("held_out", []).append([state.epoch, loss])
        metric = 1.0 / (1.0 + loss)  # of losses, which are never below zero: higher is better
        if metric > state.best_metric:
            state.best_metric, state.best_epoch, state.waited = metric, state.epoch, 0
            if self.collective.rank == 0:
                self.checkpoints.save_best(self.learnable)
        else:
            state.waited += 1
        return loss

    def _save(self) -> None:
        self.state.scaler = self.precision.state()
        if self.collective.rank == 0:
            self.checkpoints.save(self.learnable, self.optimizer, self.state)


def _groups(module: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Part what weight decay is for, matrices, from biases and the scales of norms."""
    open_ = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in open_ if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in open_ if p.dim() <= 1], "weight_decay": 0.0},
    ]
