"""Pictures through the encoder half of a variational autoencoder that was trained on the catalog.

Letters in shapes: B pictures, H and W rows and columns, Z latent numbers.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import Field

from crossweave.encoders.base import EncoderSettings, FloatArray
from crossweave.encoders.neural import NeuralEncoder, NeuralSettings
from crossweave.encoders.pictures import ImageEncoder, ImageSettings
from crossweave.encoders.vae import CONFIG, WEIGHTS, VaeShape, load_vae, read_shape
from crossweave.encoders.weights import hash_files, safetensors_path


class VaeSettings(NeuralSettings, ImageSettings):
    """Settings of the VAE encoder."""

    path: Path = Field(description="Directory with vae.json and model.safetensors; its content is hashed.")
    batch_images: int = Field(32, ge=1, description="Pictures of one call.")


class VaeEncoder(NeuralEncoder, ImageEncoder):
    """JPEG, PNG or WEBP bytes, squeezed to the model's square, become the mean [Z] of their latents.

    Failures: those of `stills.decode_image`. Raises SettingsError where the directory's files do not fit each other.
    """

    name = "vae"
    Settings: ClassVar[type[EncoderSettings]] = VaeSettings
    neutral_settings = NeuralEncoder.neutral_settings | ImageEncoder.neutral_settings | {"path", "batch_images"}
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

    def _weights_hash(self) -> str:
        shape, weights = self.settings.path / CONFIG, self.settings.path / WEIGHTS
        _ = self._shape  # a directory that does not fit is refused before it is hashed
        return hash_files([(CONFIG, shape), (WEIGHTS, safetensors_path(weights, "encoder.path"))])

    def _build(self) -> torch.nn.Module:
        model = load_vae(self.settings.path)
        return torch.nn.Sequential(model.encoder, model.mean).eval()

    def _prepare_picture(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """The squeezed copy, uint8 [3, H, W]."""
        side = self.decode_side
        small = picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))

    def _encode(self, examples: list[npt.NDArray[np.uint8]]) -> FloatArray:
        with torch.inference_mode():
            pixels_BCHW = (torch.from_numpy(np.stack(examples)).to(self._device) / 255).to(self._dtype)
            if self.backend == "channels_last":
                pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
            means: FloatArray = self._model(pixels_BCHW).float().cpu().numpy()
            return means
