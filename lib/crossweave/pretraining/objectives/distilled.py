"""A smaller encoder learns the vectors of a larger one (embedding distillation: Reimers & Gurevych 2020)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from crossweave.encoders.base import EncoderSettings
from crossweave.pretraining.objectives.targets import Aimed, TargetObjective


class DistilledSettings(EncoderSettings):
    """Settings of distillation."""

    teacher: str | None = Field(
        None, description="The encoder whose vectors are learned; null: this one, before it became a student."
    )
    relations: float = Field(1.0, ge=0.0, description="Weight of the cosines between the contents of a batch.")


class Distilled(TargetObjective):
    """1 − the cosine to the teacher's vector, where both have one length, plus how far cosines between contents differ.

    Cosines alone (relational distillation, Park et al. 2019) teach a student whose vectors are of another length.
    """

    Settings: ClassVar[type[EncoderSettings]] = DistilledSettings
    settings: DistilledSettings

    def forward(self, batch: Aimed) -> Tensor:
        """Return the mean loss of a batch."""
        own_BD, target_BE = normalize(self.vectors(batch.contents), dim=1), normalize(batch.targets_BE, dim=1)
        loss = self.settings.relations * (own_BD @ own_BD.T - target_BE @ target_BE.T).square().mean()
        if own_BD.shape == target_BE.shape:
            loss = loss + (1.0 - (own_BD * target_BE).sum(dim=1)).mean()
        return loss
