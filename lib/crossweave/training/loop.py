"""The training loop of one rank."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.losses.base import Choices
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.store import WEIGHTS
from crossweave.errors import TrainingDivergedError
from crossweave.feeding.items import ItemTensors, open_items
from crossweave.feeding.manifest import Manifest, required_manifest
from crossweave.storage.arrays import read_array
from crossweave.training.batches import BatchMaker, StepBatch
from crossweave.training.checkpoint import CHECKPOINTS, Checkpoints
from crossweave.training.collective import Collective
from crossweave.training.device import choose_device, move, widen
from crossweave.training.feed import EpochFeed
from crossweave.training.plan import TrainingPlan
from crossweave.training.precision import Precision
from crossweave.training.record import TrainingRecord
from crossweave.training.sample_weights import WeightScale, weight_scale
from crossweave.training.schedule import learning_rate
from crossweave.training.validation import validate

MASKED_SCORE = -1e4  # finite, and within half precision: an infinite one times zero positives is not a number


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training ended with."""

    best_metric: float
    best_epoch: int
    epochs: int
    steps: int
    resumed_from: int  # epochs that an earlier, interrupted start had finished
    curves: dict[str, list[list[float]]]
    pruned: bool = False  # it ended below the floor of an epoch
    figures: dict[str, float] = field(default_factory=dict)  # resumed_from_step, ranks at the end, seconds by use


def train(plan: TrainingPlan, collective: Collective, items: ItemTensors | None = None) -> TrainingOutcome:
    """Train until the validation metric stops rising; every rank takes the same steps.

    `items` stand in for those of the tensor set, for an experiment with other content.
    Leaves the best weights in the training's folder. Raises TrainingDivergedError for a loss that is not finite.
    """
    torch.set_num_threads(plan.threads)
    manifest = required_manifest(plan.tensors)
    if collective.local_rank == 0:
        manifest.verify()
        open_items(manifest)
    collective.wait()
    return Trainer(plan, collective, manifest, items or open_items(manifest)).run()


def _parameter_groups(model: AlignmentModel, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Part what learns from behaviour (ids, users, head) from what reads content, which a few steps overfit."""
    behaviour: list[torch.nn.Parameter] = []
    content: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (behaviour if name.startswith(("id_", "user_", "head.")) else content).append(parameter)
    return [
        {"params": behaviour, "weight_decay": plan.weight_decay, "share": 1.0},
        {"params": content, "weight_decay": plan.content_weight_decay, "share": plan.content_learning_rate},
    ]


class Trainer:
    """One rank: its model, its place in the training, and its share of the data."""

    def __init__(self, plan: TrainingPlan, collective: Collective, manifest: Manifest, items: ItemTensors) -> None:
        self.plan, self.collective, self.manifest, self.items = plan, collective, manifest, items
        self.device = choose_device(plan.device, collective.local_rank)
        self.precision = Precision(plan.precision, self.device)
        torch.manual_seed(plan.seed)
        self.model = AlignmentModel(plan.spec)
        self.model.connect(collective)
        if plan.spec.item_id:
            # Popularity is where every item starts: the model only has to learn what differs from it.
            with torch.no_grad():
                start = torch.from_numpy(np.log1p(items.popularity_N))
                self.model.id_bias.weight.copy_((start - start.mean())[:, None])
        if plan.teacher is not None:
            self.model.teach(torch.from_numpy(read_array(plan.teacher)))
        self.model.to(self.device)
        adam = torch.optim.AdamW(_parameter_groups(self.model, plan), lr=plan.learning_rate)
        # Horovod's optimizer keeps a state of its own: what is saved and restored is this one's, not the other's.
        self.optimizer = collective.distribute(adam, self.model, plan.compression == "fp16", plan.accumulate)
        self._resume()
        scale = weight_scale(manifest, collective) if plan.reads_weights else WeightScale()
        self.batches = BatchMaker(items, plan, scale)
        self.feed = EpochFeed(manifest, self.batches, plan, collective.rank, collective.size)
        self.state.of_steps(self.feed.steps)

    def _resume(self) -> None:
        """Go on from the newest whole checkpoint, every rank from the same one."""
        plan, rank = self.plan, self.collective.rank
        self.checkpoints = Checkpoints(plan.folder / CHECKPOINTS, plan.keep_checkpoints, plan.checkpoint_minutes)
        warnings: list[str] = []
        self.state = self.checkpoints.resume(self.collective, self.model, self.optimizer, warnings.append)
        self.precision.restore(self.state.scaler)
        self.resumed_from, self.resumed_from_step = self.state.epoch, self.state.step
        self.record = TrainingRecord(plan, rank, self.state.epoch + 1)
        if self.collective.attempts > 1:
            warnings.append(
                f"ranks were lost or came: {self.collective.size} of them go on from step {self.state.step}"
            )
        for text in warnings:
            self.record.line({"warning": text})

    def run(self) -> TrainingOutcome:
        plan, state = self.plan, self.state
        try:
            while state.epoch < plan.max_epochs and state.waited < plan.patience and not self._pruned:
                self._epoch()
        finally:
            self.record.close()
        if self.collective.rank == 0:
            self.checkpoints.hand_over(plan.folder / WEIGHTS)
        self.collective.wait()
        figures = {
            "resumed_from_step": self.resumed_from_step,
            "ranks": self.collective.size,
            "feed_seconds": state.feed_seconds,
            "compute_seconds": state.compute_seconds,
        }
        return TrainingOutcome(
            state.best_metric,
            state.best_epoch,
            state.epoch,
            state.step,
            self.resumed_from,
            state.curves,
            self._pruned,
            figures,
        )

    @property
    def _pruned(self) -> bool:
        """Whether a trial of a search is worse by now than it may be; the state knows, so a resumed one does."""
        plan, state = self.plan, self.state
        return state.epoch < plan.max_epochs and state.best_metric < plan.floors.get(state.epoch, -math.inf)

    def _epoch(self) -> None:
        """Take the epoch's steps that are still to take, judge it, and write a checkpoint."""
        plan, state = self.plan, self.state
        before = state.feed_seconds, state.compute_seconds
        steps_here = self.feed.steps - state.epoch_step
        self._steps()
        sums, state.sums, state.epoch_step = state.sums, {}, 0
        state.epoch += 1
        gradient_norm, loss = sums.pop("gradient_norm"), sums.pop("loss")
        entry = {"epoch": state.epoch, "loss": loss, **sums}
        self._curve("loss", loss)
        for name, value in sums.items():
            self._curve(f"loss/{name}", value)
        if state.epoch % plan.validate_every == 0 or state.epoch == plan.max_epochs:
            entry["metric"] = self._validate()
        feed, compute = state.feed_seconds - before[0], state.compute_seconds - before[1]
        samples = steps_here * plan.accumulate * plan.batch_users * self.collective.size
        shown = {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": gradient_norm,
            "samples_per_second": samples / max(feed + compute, 1e-9),
            "feed_seconds": feed,
            "compute_seconds": compute,
        }
        self.record.scalars(state.epoch, shown)
        self.record.flush()  # before the checkpoint: a restart purges what is too much, it adds nothing missing
        self._save()
        self.record.line(entry | shown)

    def _steps(self) -> None:
        """Take every step that is left of the epoch; a checkpoint is written where one is due."""
        plan, state, steps = self.plan, self.state, self.feed.steps
        batches = self.feed.read(state.epoch, state.epoch_step)
        while state.epoch_step < steps:
            started = time.perf_counter()
            some = list(islice(batches, plan.accumulate))
            fed = time.perf_counter()
            values, due = self._step(some)
            for name, value in values.items():
                state.sums[name] = state.sums.get(name, 0.0) + value / steps
            state.step += 1
            state.epoch_step += 1
            state.feed_seconds += fed - started
            state.compute_seconds += time.perf_counter() - fed
            if due and state.epoch_step < steps:
                self._save()

    def _save(self) -> None:
        """Write a checkpoint; with it done, ranks that came in the meantime may join."""
        self.state.scaler = self.precision.state()
        if self.collective.rank == 0:
            self.checkpoints.save(self.model, self.optimizer, self.state)
        self.collective.admit()

    def _step(self, batches: Sequence[tuple[int, StepBatch]]) -> tuple[dict[str, float], bool]:
        """Take one optimizer step on the mean gradient of the batches of all ranks.

        Returns the mean loss, its parts and the gradient's norm, and whether a checkpoint is due.
        """
        plan, state = self.plan, self.state
        total, position = plan.max_epochs * self.feed.steps, state.epoch * self.feed.steps + state.epoch_step
        rate = learning_rate(plan, self.collective.size * plan.accumulate, position, total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad()
        values = np.zeros(1)
        for number, (seed, batch) in enumerate(batches, start=1):
            torch.manual_seed(seed)
            with self.precision.half():
                loss, parts = self._loss(move(batch, self.device))
            values = values + np.array([loss.item(), *[part.item() for part in parts.values()]])
            if number == len(batches):
                means, due = self._agree(["loss", *parts], values / len(batches))
            self.precision.backward(loss / len(batches))
        self.optimizer.synchronize()
        norm = self.precision.clip(self.optimizer, self.model, plan.clip_norm)
        with self.optimizer.skip_synchronize():
            self.precision.step(self.optimizer)
        self.model.constrain()
        return means | {"gradient_norm": norm if math.isfinite(norm) else 0.0}, due

    def _agree(self, names: Sequence[str], values: np.ndarray) -> tuple[dict[str, float], bool]:
        """Return the means over all ranks, and whether a checkpoint is due: all ranks see the same in the same step."""
        due = self.collective.rank == 0 and self.checkpoints.due  # by one clock, so that all of them agree
        *sums, due_ranks = self.collective.sum(np.append(values, due), "loss").tolist()
        means = {name: value / self.collective.size for name, value in zip(names, sums, strict=True)}
        if not np.isfinite(sums).all():
            raise TrainingDivergedError(
                f"the loss is not finite after {self.state.step} steps: {means}",
                "lower train.learning_rate or train.clip_norm; the last checkpoint is kept",
            )
        return means, due_ranks > 0

    def _loss(self, batch: StepBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch and its parts."""
        plan, model = self.plan, self.model
        items, content = model.items(batch.items)
        users = model.users(items.history_SD, batch.histories, batch.who)
        # Some users (rows come shuffled) choose by content alone, as they will among new items.
        hidden = round(plan.spec.item_id_dropout * len(users)) if plan.spec.item_id else 0
        parts_BC = [
            model.scores(some, model.targets(vectors, batch.candidates_C))
            for some, vectors in ((users.part(0, hidden), content), (users.part(hidden, len(users)), items))
        ]
        # What a user has is masked when ranking; as negatives these items would push their like away.
        scores_BC = torch.cat(parts_BC)
        scores_BC = scores_BC.index_put(batch.shown, scores_BC.new_tensor(MASKED_SCORE))
        choices = Choices(
            scores_BC,
            batch.positives_BC,
            batch.log_inclusion_C,
            batch.taken,
            batch.rating_T,
            users.own_BD,
            items.target_SD[batch.candidates_C],
        )
        with self.precision.whole():
            index_S = batch.items.index_S
            loss, parts = model.loss(widen(items), widen(content), index_S, batch.aligned_A, widen(choices))
        return loss, parts

    def _validate(self) -> float:
        plan, state = self.plan, self.state
        mine = validate(self.model, self.items, self.manifest, plan, self.collective.rank, self.collective.size)
        total, users = self.collective.sum(np.array(mine), "validation")
        # Without held-out items there is nothing to stop on: the last epoch is the best.
        metric = total / users if users else float(state.epoch)
        if users:
            self._curve("validation", metric)
        if metric > state.best_metric:
            state.best_metric, state.best_epoch, state.waited = metric, state.epoch, 0
            if self.collective.rank == 0:
                self.checkpoints.save_best(self.model)
        else:
            state.waited += 1
        return metric

    def _curve(self, name: str, value: float) -> None:
        self.state.curves.setdefault(name, []).append([self.state.epoch, float(value)])
        self.record.scalars(self.state.epoch, {name: float(value)})
