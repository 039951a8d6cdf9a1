"""The learning rate of an optimizer step."""

from __future__ import annotations

import math
from typing import Protocol

FLOOR = 0.01  # share of the peak that is left at the end


class Schedule(Protocol):
    """What a plan says of the learning rate."""

    @property
    def learning_rate(self) -> float:
        """The peak."""

    @property
    def lr_scaling(self) -> str:
        """With the batches that a step averages over: sqrt, linear or none."""

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps up to the peak."""


def learning_rate(plan: Schedule, batches: int, step: int, total: int) -> float:
    """Return the rate of one of `total` optimizer steps: linear warm-up, then half a cosine (Loshchilov & Hutter 2017).

    `batches` is how many batches a step averages over: ranks × accumulate.
    """
    peak = plan.learning_rate * _scale(plan.lr_scaling, batches)
    if step < plan.warmup_steps:
        return peak * (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, total - plan.warmup_steps)
    return peak * (FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))


def _scale(scaling: str, batches: int) -> float:
    """Return what the larger batch allows: its square root (Krizhevsky 2014), itself (Goyal et al. 2017) or nothing."""
    return {"sqrt": math.sqrt(batches), "linear": float(batches), "none": 1.0}[scaling]
