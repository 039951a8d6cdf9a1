"""Attention fusion: a softmax over the modalities that an item has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.fusions.pooling import weighted_tokens
from crossweave.alignment.ranges import AtLeast1


class AttentionFusion(nn.Module):
    """Weighs each token by a small scoring network; a missing modality gets no weight at all.

    Additive attention (Bahdanau et al. 2015, eq. 6) with a learned bias a modality.
    """

    def __init__(self, dim: int, modalities: int, hidden: AtLeast1 = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.modality_bias_M = nn.Parameter(torch.zeros(modalities))
        self.nothing_D = nn.Parameter(torch.zeros(dim))  # stands for an item without any modality

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return content vectors [B, D] from tokens [B, M, D] and their boolean mask [B, M]."""
        logits_BM = self.score(tokens_BMD).squeeze(-1) + self.modality_bias_M
        return weighted_tokens(logits_BM, tokens_BMD, present_BM, self.nothing_D)
