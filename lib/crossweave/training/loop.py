"""The training loop of one rank."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from crossweave.alignment.losses.base import Choices
from crossweave.alignment.model import AlignmentModel
from crossweave.errors import TrainingDivergedError
from crossweave.feeding.items import ItemTensors, open_items
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.feeding.sequences import read_epoch
from crossweave.training.batches import BatchMaker, StepBatch
from crossweave.training.checkpoint import Checkpoints
from crossweave.training.collective import Collective
from crossweave.training.plan import TrainingPlan
from crossweave.training.sample_weights import WeightScale, weight_scale
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


def train(plan: TrainingPlan, collective: Collective, items: ItemTensors | None = None) -> TrainingOutcome:
    """Train until the validation metric stops rising; every rank takes the same steps.

    `items` stand in for those of the tensor set, for an experiment with other content.
    Leaves the best weights in the model's folder. Raises TrainingDivergedError for a loss that is not finite.
    """
    torch.set_num_threads(plan.threads)
    manifest = load_manifest(plan.tensors)
    assert manifest is not None
    if collective.local_rank == 0:
        manifest.verify()
        open_items(manifest)
    collective.wait()
    return _Trainer(plan, collective, manifest, items or open_items(manifest)).run()


def _parameter_groups(model: AlignmentModel, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Part what learns from behaviour alone (ids, user tower) from what reads content, which a few steps overfit."""
    behaviour: list[torch.nn.Parameter] = []
    content: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (behaviour if name.startswith(("id_", "user_tower.")) else content).append(parameter)
    return [
        {"params": behaviour, "weight_decay": plan.weight_decay, "share": 1.0},
        {"params": content, "weight_decay": plan.content_weight_decay, "share": plan.content_learning_rate},
    ]


class _Trainer:
    def __init__(self, plan: TrainingPlan, collective: Collective, manifest: Manifest, items: ItemTensors) -> None:
        self.plan, self.collective, self.manifest, self.items = plan, collective, manifest, items
        torch.manual_seed(plan.seed)
        self.model = AlignmentModel(plan.spec)
        self.model.connect(collective)
        if plan.spec.item_id:
            # Popularity is where every item starts: the model only has to learn what differs from it.
            with torch.no_grad():
                start = torch.from_numpy(np.log1p(items.popularity_N))
                self.model.id_bias.weight.copy_((start - start.mean())[:, None])
        adam = torch.optim.AdamW(_parameter_groups(self.model, plan), lr=plan.learning_rate)
        # Horovod's optimizer keeps a state of its own: what is saved and restored is this one's, not the other's.
        self.optimizer = collective.distribute(adam, self.model, half=plan.compression == "fp16")
        self.checkpoints = Checkpoints(plan.folder / "checkpoints", plan.keep_checkpoints)
        # Every rank reads the checkpoint that rank 0 found (the folder is shared), then gets rank 0's values.
        newest = collective.from_first(self.checkpoints.newest())
        self.state = self.checkpoints.restore(newest, self.model, self.optimizer)
        self.resumed_from = self.state.epoch
        # What an interrupted start wrote after its last checkpoint is purged.
        log, first = str(plan.folder / "tensorboard"), self.state.epoch + 1
        self.board = SummaryWriter(log, purge_step=first) if collective.rank == 0 else None
        collective.start_equal(self.model, self.optimizer)
        scale = weight_scale(manifest, collective) if plan.reads_weights else WeightScale()
        self.batches = BatchMaker(items, plan, scale)
        largest = max(manifest.shard_rows(rank, plan.ranks) for rank in range(plan.ranks))
        self.steps_per_epoch = max(1, math.ceil(largest / plan.batch_users))

    def run(self) -> TrainingOutcome:
        plan, state = self.plan, self.state
        while state.epoch < plan.max_epochs and state.waited < plan.patience and not self._pruned:
            loss, parts = self._epoch(state.epoch)
            state.epoch += 1
            entry = {"epoch": state.epoch, "loss": loss, **parts}
            self._curve("loss", loss)
            for name, value in parts.items():
                self._curve(f"loss/{name}", value)
            if state.epoch % plan.validate_every == 0 or state.epoch == plan.max_epochs:
                entry["metric"] = self._validate()
            if self.board is not None:
                self.board.add_scalar("learning_rate", self.optimizer.param_groups[0]["lr"], state.epoch)
                self.board.flush()  # before the checkpoint: a restart purges what is too much, it adds nothing missing
            if self.collective.rank == 0:
                self.checkpoints.save(self.model, self.optimizer, state)
                with plan.progress.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(entry) + "\n")
        if self.board is not None:
            self.board.close()
        if self.collective.rank == 0:
            shutil.copyfile(self.checkpoints.best, plan.folder / ".model.safetensors.new")
            (plan.folder / ".model.safetensors.new").replace(plan.folder / "model.safetensors")
        self.collective.wait()
        return TrainingOutcome(
            state.best_metric, state.best_epoch, state.epoch, state.step, self.resumed_from, state.curves, self._pruned
        )

    @property
    def _pruned(self) -> bool:
        """Whether a trial of a search is worse by now than it may be; the state knows, so a resumed one does."""
        plan, state = self.plan, self.state
        return state.epoch < plan.max_epochs and state.best_metric < plan.floors.get(state.epoch, -math.inf)

    def _epoch(self, epoch: int) -> tuple[float, dict[str, float]]:
        """Take every step of an epoch; returns the mean loss and its parts over all ranks."""
        plan, rank = self.plan, self.collective.rank
        sums: dict[str, float] = {}
        # Each rank shuffles its own shard; the seed says which epoch it is, not what ran before.
        seed = plan.step_seed(epoch, 2**31, rank)
        steps = self.steps_per_epoch
        rows_of_steps = read_epoch(self.manifest, rank, plan.ranks, seed, plan.batch_users, steps)
        for step, rows in enumerate(rows_of_steps):
            step_seed = plan.step_seed(epoch, step, rank)
            torch.manual_seed(step_seed)
            for name, value in self._step(self.batches.make(rows, step_seed)).items():
                sums[name] = sums.get(name, 0.0) + value / steps
        return sums.pop("loss"), sums

    def _step(self, batch: StepBatch) -> dict[str, float]:
        self._set_learning_rate()
        plan, model = self.plan, self.model
        items, content = model.items(batch.items)
        user_BD = model.users(items.history_SD, batch.histories)
        # Some users (rows come shuffled) choose by content alone, as they will among new items.
        hidden = round(plan.spec.item_id_dropout * len(user_BD)) if plan.spec.item_id else 0
        parts_BC = [
            user_XD @ some.target_SD[batch.candidates_C].T + some.bias_S[batch.candidates_C]
            for user_XD, some in ((user_BD[:hidden], content), (user_BD[hidden:], items))
        ]
        # What a user has is masked when ranking; as negatives these items would push their like away.
        scores_BC = torch.cat(parts_BC).index_put(batch.shown, torch.tensor(MASKED_SCORE))
        choices = Choices(
            scores_BC,
            batch.positives_BC,
            batch.log_inclusion_C,
            batch.taken,
            batch.rating_T,
            user_BD,
            items.target_SD[batch.candidates_C],
        )
        loss, parts = model.loss(items, batch.aligned_A, batch.items.index_S[batch.aligned_A], choices)
        # The mean over ranks, so that all of them see a loss that is not finite in the same step.
        values = np.array([loss.item(), *[part.item() for part in parts.values()]])
        means = self.collective.sum(values, "loss") / self.collective.size
        if not np.isfinite(means).all():
            named = dict(zip(["loss", *parts], means.tolist(), strict=True))
            raise TrainingDivergedError(
                f"the loss is not finite after {self.state.step} steps: {named}",
                "lower train.learning_rate or train.clip_norm; the last checkpoint is kept",
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.synchronize()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
        with self.optimizer.skip_synchronize():
            self.optimizer.step()
        model.constrain()
        self.state.step += 1
        return dict(zip(["loss", *parts], means.tolist(), strict=True))

    def _set_learning_rate(self) -> None:
        """Linear warm-up, then half a cosine down to a hundredth; √ranks times the rate of one rank."""
        plan, step = self.plan, self.state.step
        total = plan.max_epochs * self.steps_per_epoch
        peak = plan.learning_rate * math.sqrt(plan.ranks)
        if step < plan.warmup_steps:
            rate = peak * (step + 1) / plan.warmup_steps
        else:
            done = (step - plan.warmup_steps) / max(1, total - plan.warmup_steps)
            rate = peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]

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

    def _curve(self, name: str, value: Any) -> None:
        self.state.curves.setdefault(name, []).append([self.state.epoch, float(value)])
        if self.board is not None:
            self.board.add_scalar(name, float(value), self.state.epoch)
