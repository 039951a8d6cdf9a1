"""The learning rate of an optimizer step."""

from __future__ import annotations

import math

from crossweave.training.plan import TrainingPlan

FLOOR = 0.01  # share of the peak that is left at the end


def learning_rate(plan: TrainingPlan, batches: int, step: int, total: int) -> float:
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
