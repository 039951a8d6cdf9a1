"""Pointwise ratings: how much did the user like what it took?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.losses.base import BehaviourLoss, Choices


class Rating(BehaviourLoss):
    """Mean squared error of r̂ = a s + p · u + q · t + b against the standardised weights of the targets.

    An extra task beside ranking. The user's and the item's own levels are terms of their own (the biases of Koren et
    al. 2009, eq. 4, read from the vectors, so that new items have them), and a, p, q and b start at 0, the mean
    rating: the score is asked only for what is left, at the scale that suits it. Where all weights are equal, as
    without a weight column, every target is 0 and so are the loss and its gradient.
    """

    ranks = False

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__(dim, modalities)
        self.scale = nn.Parameter(torch.zeros(()))
        self.user_level = nn.Linear(dim, 1)
        self.item_level = nn.Linear(dim, 1, bias=False)
        for parameter in (*self.user_level.parameters(), *self.item_level.parameters()):
            nn.init.zeros_(parameter)

    def predict(self, choices: Choices) -> Tensor:
        """Return the standardised rating of each taken candidate: float32 [T]."""
        user_T, item_T = choices.taken
        own_B, own_C = self.user_level(choices.user_BD).squeeze(1), self.item_level(choices.item_CD).squeeze(1)
        return self.scale * choices.scores_BC[user_T, item_T] + own_B[user_T] + own_C[item_T]

    def of_pairs(self, score_R: Tensor, user_RD: Tensor, item_RD: Tensor) -> Tensor:
        """Return the standardised rating of pairs whose sides lie one beside the other: float32 [R]."""
        return self.scale * score_R + (self.user_level(user_RD) + self.item_level(item_RD)).squeeze(1)

    def forward(self, choices: Choices) -> Tensor:
        """Return the mean over the taken candidates; 0 where there are none."""
        error_T = self.predict(choices) - choices.rating_T
        return error_T.square().sum() / max(1, len(error_T))
