"""A convolutional variational autoencoder (Kingma & Welling 2014): its network, its loss, and how it lies on disk.

Letters in shapes: B pictures, C channels, H and W rows and columns, Z latent numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save_file
from torch import nn

from crossweave.encoders.weights import load_state, read_json
from crossweave.errors import SettingsError

CONFIG, WEIGHTS = "vae.json", "model.safetensors"


class VaeShape(BaseModel):
    """Sizes of the network: pictures of `side` pixels, halved once for each entry of `channels`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    side: int = Field(64, ge=8, le=512)
    channels: tuple[int, ...] = (32, 64, 128, 256)
    latent: int = Field(128, ge=1, le=8192)

    @property
    def inner_side(self) -> int:
        """Rows and columns after the last halving. Raises ValueError where the side cannot be halved that often."""
        inner, rest = divmod(self.side, 2 ** len(self.channels))
        if rest or not inner or not self.channels:
            raise ValueError(f"a side of {self.side} cannot be halved {len(self.channels)} times")
        return inner


class Vae(nn.Module):
    """Pictures [B, 3, H, W] in 0…1 ↔ latents [B, Z]."""

    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        self.shape = shape
        inner, last = shape.inner_side, shape.channels[-1]
        down: list[nn.Module] = []
        for before, after in zip((3, *shape.channels), shape.channels, strict=False):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(1, after), nn.SiLU()]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.mean = nn.Linear(last * inner * inner, shape.latent)
        self.log_variance = nn.Linear(last * inner * inner, shape.latent)
        up: list[nn.Module] = [nn.Linear(shape.latent, last * inner * inner), nn.Unflatten(1, (last, inner, inner))]
        for before, after in zip(shape.channels[::-1], (*shape.channels[-2::-1], 3), strict=True):
            up += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        self.decoder = nn.Sequential(*up)

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance [B, Z] of the latents of pictures [B, 3, H, W]."""
        hidden = self.encoder(pixels)
        return self.mean(hidden), self.log_variance(hidden)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reconstruction [B, 3, H, W] of a drawn latent (the reparameterised z = μ + σ ε), mean and log variance."""
        mean, log_variance = self.encode(pixels)
        drawn = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return torch.sigmoid(self.decoder(drawn)), mean, log_variance


def negative_elbo(
    pixels: torch.Tensor, rebuilt: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, beta: float = 1.0
) -> torch.Tensor:
    """−ELBO, mean over pictures: squared error (a Gaussian likelihood of variance ½) + β KL(q(z|x) ‖ N(0, 1))."""
    error = (rebuilt - pixels).square().flatten(1).sum(dim=1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
    return (error + beta * divergence).mean()


def save_vae(model: Vae, folder: Path) -> None:
    """Write the model's shape and weights to a folder, as `load_vae` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(model.shape.model_dump(), indent=2) + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)


def read_shape(folder: Path) -> VaeShape:
    """A folder's shape. Raises SettingsError where it is missing or makes no sense."""
    try:
        shape = VaeShape.model_validate(read_json(folder / CONFIG, "encoder.path"))
        _ = shape.inner_side
    except (ValidationError, ValueError) as error:
        raise SettingsError(f"encoder.path: {str(folder / CONFIG)!r} describes no model ({error})") from error
    return shape


def load_vae(folder: Path) -> Vae:
    """The model of a folder, in evaluation mode. Raises SettingsError where shape and weights do not fit."""
    model = Vae(read_shape(folder))
    try:
        model.load_state_dict(load_state(folder / WEIGHTS, "encoder.path"))
    except RuntimeError as error:
        raise SettingsError(f"encoder.path: the weights in {str(folder)!r} do not fit {CONFIG}: {error}") from error
    return model.eval()
