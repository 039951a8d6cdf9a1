"""Contrastive learning of pictures (SimCLR, Chen et al. 2020): two views of one are alike, of two they are not."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from crossweave.encoders.base import EncoderSettings
from crossweave.pretraining.objectives.base import Inputs
from crossweave.pretraining.objectives.views import ViewObjective, ViewSettings


class ContrastiveSettings(ViewSettings):
    """Settings of contrastive learning."""

    temperature: float = Field(0.2, gt=0.0, description="Of the softmax over cosines.")


class Contrastive(ViewObjective):
    """NT-Xent: −log softmax over all other views, of all ranks, of the cosine to the other view of one's picture."""

    Settings: ClassVar[type[EncoderSettings]] = ContrastiveSettings
    settings: ContrastiveSettings

    def forward(self, batch: tuple[Inputs, Inputs]) -> Tensor:
        """Return the mean loss a view."""
        one_BW, two_BW = (normalize(self.projected(views), dim=1) for views in batch)
        size = len(one_BW)
        own_MW = torch.cat([one_BW, two_BW])
        all_NW, start = self.gathered(own_MW)
        scores_MN = own_MW @ all_NW.T / self.settings.temperature
        row_M = torch.arange(2 * size, device=scores_MN.device)
        scores_MN = scores_MN.index_put((row_M, start + row_M), scores_MN.new_tensor(-torch.inf))  # of a view to itself
        return cross_entropy(scores_MN, start + (row_M + size) % (2 * size))
