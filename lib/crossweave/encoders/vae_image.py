"""Pictures through the encoder half of a variational autoencoder that was trained on the catalog.

Letters in shapes: B pictures, H and W rows and columns, Z latent numbers.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import Field

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.neural import NeuralSettings, TrainableEncoder
from crossweave.encoders.pictures import ImageEncoder, ImageSettings
from crossweave.encoders.vae import CONFIG, WEIGHTS, Vae, VaeShape, load_vae, read_shape, save_vae
from crossweave.encoders.weights import hash_files, safetensors_path


class VaeSettings(NeuralSettings, ImageSettings):
    """Settings of the VAE encoder."""

    path: Path = Field(description="Directory with vae.json and model.safetensors; its content is hashed.")
    batch_images: int = Field(32, ge=1, description="Pictures of one call.")


class VaeEncoder(TrainableEncoder, ImageEncoder):
    """JPEG, PNG or WEBP bytes, squeezed to the model's square, become the mean [Z] of their latents.

    Failures: those of `stills.decode_image`. Raises SettingsError where the directory's files do not fit each other.
    """

    name = "vae"
    Settings: ClassVar[type[EncoderSettings]] = VaeSettings
    neutral_settings = TrainableEncoder.neutral_settings | ImageEncoder.neutral_settings | {"path", "batch_images"}
    default_backend = "channels_last"
    settings: VaeSettings

    @property
    def batch_budget(self) -> int:
        """Pictures of one call."""
        return self.settings.batch_images

    @functools.cached_property
    def _shape(self) -> VaeShape:
        return read_shape(self.settings.path)

    @property
    def decode_side(self) -> int:
        """The model's side."""
        return self._shape.side

    def _dim(self) -> int:
        return self._shape.latent

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """Shape and weights."""
        weights = safetensors_path(self.settings.path / WEIGHTS, "encoder.path")
        return ((CONFIG, self.settings.path / CONFIG), (WEIGHTS, weights))

    def _weights_hash(self) -> str:
        _ = self._shape  # a directory that does not fit is refused before it is hashed
        return hash_files(self.files)

    def network(self) -> Vae:
        """Both halves."""
        return load_vae(self.settings.path)

    def skeleton(self) -> Vae:
        """Both halves' shapes."""
        with torch.device("meta"):
            return Vae(self._shape)

    def _build(self) -> torch.nn.Module:
        model = self.network()
        return torch.nn.Sequential(model.encoder, model.mean).eval()

    def _save_weights(self, network: Vae, folder: Path) -> None:
        save_vae(network, folder)

    def _prepare_picture(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """The squeezed copy, uint8 [3, H, W]."""
        side = self.decode_side
        small = picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))

    def pixels(self, batch: torch.Tensor) -> torch.Tensor:
        """Pixels as the network takes them, in 0 to 1."""
        layout = torch.channels_last if self.backend == "channels_last" else torch.contiguous_format
        return (batch / 255).to(self._dtype).contiguous(memory_format=layout)

    def vectors(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        """Means of the latents, by both halves or by what `_build` leaves of them."""
        pixels_BCHW = self.pixels(batch[0])
        whole = network.get_base_model() if hasattr(network, "get_base_model") else network  # under an adapter
        means: torch.Tensor = whole.encode(pixels_BCHW)[0] if isinstance(whole, Vae) else whole(pixels_BCHW)
        return means
