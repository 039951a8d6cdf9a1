"""Bounds the memory of what is computed for every pair of a user and an item."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MOST_NUMBERS = 4_000_000  # float32 numbers of one intermediate result: 16 MB


def recomputed(block: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return block(*inputs); in training its intermediate results are computed again rather than kept.

    The block must draw no random numbers.
    """
    if not torch.is_grad_enabled():
        return block(*inputs)
    made: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return made
