"""Cosine: only the direction of a vector counts, how far a bias reaches is learned."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.heads.base import Head
from crossweave.alignment.losses.infonce import LARGEST_SCALE
from crossweave.alignment.ranges import Above0

SHORTEST = 0.01  # a shorter vector is not stretched to 1: a newcomer starts at zero, where there would be no slope


class Cosine(Head):
    """s = cos(u, t) / τ + b with a learned temperature τ (Yi et al. 2019, §3; the limit is CLIP's)."""

    def __init__(self, dim: int, temperature: Above0 = 0.1) -> None:
        super().__init__(dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def users(self, user_BD: Tensor) -> Tensor:
        """Return unit vectors over the temperature."""
        return self.log_scale.clamp(max=LARGEST_SCALE).exp() * F.normalize(user_BD, dim=1, eps=SHORTEST)

    def items(self, target_SD: Tensor, bias_S: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors, and the bias as it is."""
        return F.normalize(target_SD, dim=1, eps=SHORTEST), bias_S
