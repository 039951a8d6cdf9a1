"""Cross-modal InfoNCE with a learned temperature."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.losses.base import AlignmentLoss

LARGEST_SCALE = math.log(100.0)  # as in CLIP: a temperature below 0.01 makes the loss blow up


class InfoNCE(AlignmentLoss):
    """Symmetric InfoNCE averaged over all pairs of modalities (van den Oord et al. 2018; Radford et al. 2021).

    For a pair (m, n) the other items of the batch that have both modalities are the negatives.
    """

    def __init__(self, dim: int, modalities: int, temperature: float = 0.1) -> None:
        super().__init__(dim, modalities)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return the mean loss over the pairs of modalities that at least two items share; 0 where none do."""
        scale = self.log_scale.clamp(max=LARGEST_SCALE).exp()
        losses = []
        for m, n in itertools.combinations(range(tokens_BMD.shape[1]), 2):
            both = (present_BM[:, m] & present_BM[:, n]).nonzero().squeeze(1)
            if len(both) < 2:
                continue
            logits = scale * tokens_BMD[both, m] @ tokens_BMD[both, n].T
            own = torch.arange(len(both), device=logits.device)
            losses.append((F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2)
        # The zero keeps every parameter in the graph: ranks must reduce the same gradients in every step.
        return torch.stack(losses).mean() if losses else 0.0 * (tokens_BMD.sum() + self.log_scale)
