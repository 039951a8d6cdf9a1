"""Pictures rebuilt from few numbers (Kingma & Welling 2014): what encoder `vae` learns by, from nothing or further."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.vae import negative_elbo
from crossweave.encoders.vae_image import VaeEncoder
from crossweave.pretraining.objectives.base import Corpus, Inputs, Objective


class RebuiltSettings(EncoderSettings):
    """Settings of rebuilding."""

    beta: float = Field(1.0, ge=0.0, description="Weight of the divergence from N(0, 1) (Higgins et al. 2017).")


class Rebuilt(Objective[Inputs]):
    """−ELBO of the pictures as the encoder sees them."""

    Settings: ClassVar[type[EncoderSettings]] = RebuiltSettings
    learners = VaeEncoder
    settings: RebuiltSettings
    encoder: VaeEncoder

    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> Inputs:
        """Take the chosen pictures."""
        return self.inputs(corpus.contents[i] for i in chosen)

    def forward(self, batch: Inputs) -> Tensor:
        """Return the mean loss a picture."""
        pixels_BCHW = self.encoder.pixels(batch[0])
        with self.autocast():
            found = self.network(pixels_BCHW)
        rebuilt_BCHW, mean_BZ, log_variance_BZ = (part.float() for part in found)
        return negative_elbo(pixels_BCHW, rebuilt_BCHW, mean_BZ, log_variance_BZ, self.settings.beta)
