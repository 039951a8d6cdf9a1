"""Masked-modality reconstruction: each token from the others of its item."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.losses.base import AlignmentLoss, in_company
from crossweave.alignment.ranges import AtLeast1


class Reconstruction(AlignmentLoss):
    """1 − cos(xₘ, f(mean of the item's other tokens) for modality m), averaged over tokens that have others.

    Every token is hidden in turn, so nothing is drawn. f starts as the identity and learns a correction a modality:
    the masked-modality objective of multimodal masked models (Geng et al. 2022, in spirit), on tokens rather than
    on pixels and words.
    """

    def __init__(self, dim: int, modalities: int, hidden: AtLeast1 = 64) -> None:
        super().__init__(dim, modalities)
        self.modality_MD = nn.Parameter(torch.randn(modalities, dim) * dim**-0.5)
        self.correct = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        last = self.correct[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor, index_B: Tensor) -> Tensor:
        """Return the mean distance; 0 where no item has two modalities."""
        kept_BMD = tokens_BMD.masked_fill(~present_BM[..., None], 0.0)
        used_BM = in_company(present_BM)
        others_BM1 = (present_BM.sum(dim=1, keepdim=True) - 1).clamp(min=1)[..., None]
        context_BMD = (kept_BMD.sum(dim=1, keepdim=True) - kept_BMD) / others_BM1
        guess_BMD = context_BMD + self.correct(context_BMD + self.modality_MD)
        distance_BM = 1.0 - nn.functional.cosine_similarity(kept_BMD, guess_BMD, dim=2)
        return (distance_BM * used_BM).sum() / used_BM.sum().clamp(min=1)
