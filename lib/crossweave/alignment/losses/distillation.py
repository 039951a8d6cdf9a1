"""Distillation: an item's content tells what a collaborative teacher learned of the item from behaviour."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.losses.base import ContentLoss
from crossweave.alignment.ranges import Above0, AtLeast1


class Distillation(ContentLoss):
    """1 − cos(W c, t) averaged over the items that the teacher knows, c the content's target vector, W learned.

    t is the item's factor by Spark ML's ALS (see `collaborative/als.py` for what `rank`, `alpha`, `l2` and `iterations`
    mean), fitted before the training. Matching the direction
    of a teacher's representation through a learned map is the hint of Romero et al. 2015, §2.2; here the student sees
    content alone, so that a new item starts where behaviour would have put it (cf. DropoutNet, Volkovs et al. 2017).
    """

    def __init__(
        self,
        dim: int,
        modalities: int,
        rank: AtLeast1 = 64,
        alpha: Above0 = 5.0,
        l2: Above0 = 0.1,
        iterations: AtLeast1 = 10,
    ) -> None:
        super().__init__(dim, modalities)
        self.teacher = {"rank": rank, "alpha": alpha, "l2": l2, "iterations": iterations}
        self.out = nn.Linear(dim, rank, bias=False)

    def forward(self, content_SD: Tensor, index_S: Tensor) -> Tensor:
        """Return the mean over items whose teacher row is not zero; 0 where there are none."""
        teacher_ST = self.teacher_NT[index_S]
        known_S = teacher_ST.any(dim=1)
        cosine_S = F.cosine_similarity(self.out(content_SD), teacher_ST, dim=1)
        return ((1.0 - cosine_S) * known_S).sum() / known_S.sum().clamp(min=1)
