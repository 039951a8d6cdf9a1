"""Learning of pictures without negatives (VICReg, Bardes et al. 2022): for batches too small to hold good ones."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from crossweave.encoders.base import EncoderSettings
from crossweave.pretraining.objectives.base import Inputs
from crossweave.pretraining.objectives.views import ViewObjective, ViewSettings

SMALLEST = 1e-4  # added to a variance before its root


class VicregSettings(ViewSettings):
    """Settings of VICReg; the weights are the paper's."""

    invariance: float = Field(25.0, ge=0.0, description="Weight of the distance between two views of a picture.")
    variance: float = Field(25.0, ge=0.0, description="Weight of deviations below 1.")
    covariance: float = Field(1.0, ge=0.0, description="Weight of what the numbers of a projection share.")


class Vicreg(ViewObjective):
    """Views of a picture lie close, every number spreads over the pictures of all ranks, and no two say the same."""

    Settings: ClassVar[type[EncoderSettings]] = VicregSettings
    settings: VicregSettings

    def forward(self, batch: tuple[Inputs, Inputs]) -> Tensor:
        """Return the loss of a batch."""
        settings = self.settings
        one_BW, two_BW = (self.gathered(self.projected(views))[0] for views in batch)
        loss = settings.invariance * (one_BW - two_BW).square().mean()
        for rows_BW in (one_BW, two_BW):
            centred_BW = rows_BW - rows_BW.mean(dim=0)
            shared_WW = centred_BW.T @ centred_BW / max(1, len(rows_BW) - 1)
            spread_W = (shared_WW.diagonal() + SMALLEST).sqrt()
            apart = shared_WW - torch.diag(shared_WW.diagonal())
            loss = loss + settings.variance / 2 * torch.relu(1.0 - spread_W).mean()
            loss = loss + settings.covariance * apart.square().sum() / rows_BW.shape[1]
        return loss
