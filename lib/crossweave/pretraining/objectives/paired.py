"""Pairs of modalities (CLIP, Radford et al. 2021): an item's picture or sound finds its text among those of others.

One side learns, the other's vectors are as its encoder gives them (LiT, Zhai et al. 2022), so that a small catalog
cannot spoil both.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from crossweave.encoders.base import EncoderSettings
from crossweave.pretraining.objectives.base import Scale
from crossweave.pretraining.objectives.targets import Aimed, TargetObjective


class PairedSettings(EncoderSettings):
    """Settings of learning from pairs."""

    modality: str = Field(description="The other modality, whose vectors are learned from.")
    width: int = Field(256, ge=2, description="Numbers of the projections that are compared, and dropped afterwards.")
    temperature: float = Field(0.07, gt=0.0, description="Of the softmax over cosines, to begin with; it learns.")


class Paired(TargetObjective):
    """Cross-entropy, both ways, of finding a content's partner among those of all ranks, but for equal ones."""

    Settings: ClassVar[type[EncoderSettings]] = PairedSettings
    settings: PairedSettings

    def __init__(self, encoder: Any, network: Any, settings: PairedSettings, width: int = 0) -> None:
        super().__init__(encoder, network, settings, width)
        self.own = torch.nn.Linear(encoder.dim, settings.width, bias=False)
        self.other = torch.nn.Linear(width, settings.width, bias=False)
        self.scale = Scale(settings.temperature)

    def forward(self, batch: Aimed) -> Tensor:
        """Return the mean of both directions."""
        own_BW = normalize(self.own(self.vectors(batch.contents)), dim=1)
        other_BW = normalize(self.other(batch.targets_BE), dim=1)
        all_own_NW, start = self.gathered(own_BW)
        all_other_NW, _ = self.gathered(other_BW)
        targets_NE, _ = self.gathered(batch.targets_BE)
        row_B = torch.arange(len(own_BW), device=own_BW.device)
        # The text of several pictures is no negative; distances by a matrix product would not be exactly 0.
        same_BN = torch.cdist(batch.targets_BE, targets_NE, compute_mode="donot_use_mm_for_euclid_dist") == 0.0
        same_BN = same_BN.index_put((row_B, start + row_B), torch.tensor(False, device=own_BW.device))
        losses = [
            cross_entropy(self.scale(one_BW @ all_NW.T).masked_fill(same_BN, -torch.inf), start + row_B)
            for one_BW, all_NW in ((own_BW, all_other_NW), (other_BW, all_own_NW))
        ]
        return (losses[0] + losses[1]) / 2
