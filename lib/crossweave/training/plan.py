"""What every rank is told: plain values that travel by pickle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from crossweave.alignment.spec import ModelSpec
from crossweave.storage.location import Location

ListMetric = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]
"""(recommended [U, K] item indices, relevant items a user) → one value a user."""


@dataclass(frozen=True)
class TrainingPlan:
    """One training: its data, model, schedule and where its files go."""

    tensors: Location  # folder of the tensor set
    folder: Location  # of this training: checkpoints, best weights and TensorBoard below it
    progress: Location  # JSON lines, one a validation, written by rank 0
    spec: ModelSpec
    ranks: int
    threads: int
    seed: int
    batch_users: int
    max_epochs: int
    patience: int
    validate_every: int
    learning_rate: float
    lr_scaling: str  # with the batches a step averages over: sqrt, linear or none
    accumulate: int  # batches of a rank in one optimizer step
    precision: str  # float32, bf16 or fp16
    device: str  # auto, cpu or cuda
    weight_decay: float
    content_learning_rate: float  # share of learning_rate
    content_weight_decay: float
    warmup_steps: int
    clip_norm: float
    compression: str  # of gradients between the ranks: none or fp16
    negatives: int
    negative_power: float  # of popularity, in drawing negatives
    item_balance: float  # a positive counts popularity to minus this power
    weight_by: str  # what else a positive counts: none, or its interaction's weight
    alignment_items: int
    history_keep: tuple[float, float]
    history_limit: int
    keep_checkpoints: int
    checkpoint_minutes: float
    metric_k: int
    metric: ListMetric
    teacher: Location | None  # .npy of what the content losses learn from, float32 by item index
    ids_in_validation: bool  # False under the cold protocol: only content will be there to rank by
    floors: dict[int, float] = field(default_factory=dict)  # epoch -> validation metric below which a trial ends

    def __post_init__(self) -> None:
        """Take paths of this machine too."""
        for name in ("tensors", "folder", "progress", "teacher"):
            given = getattr(self, name)
            object.__setattr__(self, name, given if given is None else Location.of(given))

    @property
    def reads_weights(self) -> bool:
        """Whether anything asks how the weights of interactions are spread."""
        return self.weight_by == "weight" or "rating" in self.spec.losses

    def step_seed(self, epoch: int, step: int, rank: int) -> int:
        """Return the seed of one step on one rank; a resumed run draws the same numbers."""
        return int(np.random.SeedSequence([self.seed, epoch, step, rank]).generate_state(1, np.uint32)[0])
