"""Views of a picture: what is cut, mirrored, tinted and blurred at random shows the same thing as before."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.pictures import ImageEncoder
from crossweave.encoders.torchvision_compat import import_torchvision
from crossweave.pretraining.kept import KeptPictures
from crossweave.pretraining.objectives.base import Corpus, Inputs, Objective

import_torchvision()
from torchvision.transforms import v2  # noqa: E402  (it needs what is defined by then)

SIDE = 256
"""Pixels of a view before the encoder's own resize, where the encoder does not say what it needs."""


class ViewSettings(EncoderSettings):
    """How views are made, and how they are compared."""

    smallest: float = Field(0.2, gt=0.0, le=1.0, description="Least share of a picture's area that a view shows.")
    colour: float = Field(
        0.4, ge=0.0, le=1.0, description="How far brightness, contrast and saturation are moved; 0 where colour counts."
    )
    mirror: bool = Field(True, description="Mirror half of the views; false where left and right count.")
    width: int = Field(128, ge=2, description="Numbers of the projection that is compared, and dropped afterwards.")


class ViewObjective(Objective[tuple[Inputs, Inputs]]):
    """Two views a picture, by torchvision's transforms; a projection of two layers on top (Chen et al. 2020)."""

    learners: ClassVar[Any] = ImageEncoder
    Settings: ClassVar[type[EncoderSettings]] = ViewSettings
    settings: ViewSettings
    kept: KeptPictures

    def __init__(self, encoder: Any, network: Any, settings: ViewSettings, width: int = 0) -> None:
        super().__init__(encoder, network, settings, width)
        dim = encoder.dim
        self.projection = torch.nn.Sequential(
            torch.nn.Linear(dim, dim), torch.nn.ReLU(), torch.nn.Linear(dim, settings.width)
        )
        self._view = view_of(settings, encoder.decode_side or SIDE)

    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> tuple[Inputs, Inputs]:
        """Make two views of each chosen picture."""
        pictures = [self.kept.picture(corpus.contents[i]) for i in chosen]
        seeds = generator.integers(2**31, size=2)
        one, two = (self._views(pictures, int(seed)) for seed in seeds)
        return one, two

    def _views(self, pictures: list[Image.Image], seed: int) -> Inputs:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.encoder.collate([self.encoder.prepare_picture(self._view(p)) for p in pictures])  # type: ignore[attr-defined]

    def projected(self, views: Inputs) -> Tensor:
        """Return the projections [B, W] of views."""
        found: Tensor = self.projection(self.vectors(views))
        return found


def view_of(settings: ViewSettings, side: int) -> Any:
    """Return the transform of a PIL picture into a square view, drawn by torch's generator."""
    steps: list[Any] = [v2.RandomResizedCrop(side, scale=(settings.smallest, 1.0), antialias=True)]
    if settings.mirror:
        steps.append(v2.RandomHorizontalFlip())
    if settings.colour:
        moved = v2.ColorJitter(settings.colour, settings.colour, settings.colour, settings.colour / 4)
        steps += [v2.RandomApply([moved], p=0.8), v2.RandomGrayscale(p=0.2)]
    blur = v2.GaussianBlur(kernel_size=max(3, side // 20 * 2 + 1), sigma=(0.1, 2.0))
    return v2.Compose([*steps, v2.RandomApply([blur], p=0.5)])
