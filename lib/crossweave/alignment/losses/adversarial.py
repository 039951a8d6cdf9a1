"""Adversarial alignment: no classifier should be able to tell which modality a token came from."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.losses.base import AlignmentLoss, in_company
from crossweave.alignment.ranges import AtLeast1, NotNegative


class _Reversal(torch.autograd.Function):
    """Identity forward, −strength × the gradient backward (Ganin & Lempitsky 2015, eq. 9)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


class Adversarial(AlignmentLoss):
    """Cross-entropy of a modality classifier behind a gradient reversal layer (Ganin & Lempitsky 2015).

    The classifier learns to tell the modalities apart while the tokens learn to be told apart no more, so the value
    *rises* towards log M as the alignment succeeds. Items with one modality take no part.
    """

    falls = False

    def __init__(self, dim: int, modalities: int, hidden: AtLeast1 = 64, strength: NotNegative = 1.0) -> None:
        super().__init__(dim, modalities)
        self.strength = strength
        self.classifier = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, modalities))

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor, index_B: Tensor) -> Tensor:
        """Return the mean over the tokens of items with two or more modalities; 0 where there are none."""
        used_BM = in_company(present_BM)
        reversed_BMD: Tensor = _Reversal.apply(tokens_BMD, self.strength)
        logits = self.classifier(reversed_BMD[used_BM])
        label = used_BM.nonzero()[:, 1]
        if len(label):
            return F.cross_entropy(logits, label)
        # The zero keeps every parameter in the graph: ranks must reduce the same gradients in every step.
        return 0.0 * (tokens_BMD.sum() + sum(parameter.sum() for parameter in self.classifier.parameters()))
