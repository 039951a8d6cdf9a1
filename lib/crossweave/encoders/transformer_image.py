"""Pictures through a vision transformer from a local directory: CLIP, SigLIP, ViT, DINOv2.

Letters in names: B pictures, C channels, H and W rows and columns, T tokens, D features.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import Field

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.huggingface import (
    PREPROCESSOR,
    WHAT,
    import_transformers,
    load_model,
    media_files,
    read_config,
)
from crossweave.encoders.neural import NeuralSettings, TrainableEncoder, write_changed
from crossweave.encoders.pictures import ImageEncoder, ImageSettings
from crossweave.encoders.weights import hash_files, read_json
from crossweave.errors import SettingsError

_POOLINGS = {  # what each model's output can give; the first is taken for auto
    "clip": ("projection", "cls", "mean"),
    "siglip": ("pooler", "mean"),  # it has no class token
    "vit": ("cls", "mean", "pooler"),
    "dinov2": ("cls", "mean", "pooler"),
}
_MODELS = {
    "clip": ("CLIPVisionModelWithProjection", "projection_dim"),
    "siglip": ("SiglipVisionModel", "vision_config.hidden_size"),
    "vit": ("ViTModel", "hidden_size"),
    "dinov2": ("Dinov2Model", "hidden_size"),
}


class ImageTransformerSettings(NeuralSettings, ImageSettings):
    """Settings of the vision transformer encoder."""

    path: Path = Field(description="Directory with config.json, preprocessor_config.json and safetensors; hashed.")
    pooling: Literal["auto", "cls", "mean", "pooler", "projection"] = Field(
        "auto",
        description="auto: projection for CLIP (the space it shares with text), pooler for SigLIP, else cls.",
    )
    normalize: bool = Field(False, description="Scale vectors to length 1, as CLIP and SigLIP are compared.")
    batch_images: int = Field(8, ge=1, description="Pictures of one call; 4 to 8 suit a CPU core, 256 a GPU.")


@dataclass(frozen=True)
class Preprocessing:
    """What preprocessor_config.json says: (height, width) or the shorter side, in pixels; crop, filter, mean, std."""

    resize: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ImageTransformerEncoder(TrainableEncoder, ImageEncoder):
    """JPEG, PNG or WEBP bytes become the pooled output [D] of a vision transformer, or of the vision side of CLIP and
    SigLIP; the text side is not loaded.

    Resizing, cropping and normalising follow preprocessor_config.json. Failures: those of `stills.decode_image`. Raises
    SettingsError where the directory is missing, incomplete or of a kind that is not supported.
    """

    name = "transformer"
    Settings: ClassVar[type[EncoderSettings]] = ImageTransformerSettings
    neutral_settings = TrainableEncoder.neutral_settings | ImageEncoder.neutral_settings | {"path", "batch_images"}
    settings: ImageTransformerSettings

    @property
    def batch_budget(self) -> int:
        """Pictures of one call."""
        return self.settings.batch_images

    @property
    def decode_side(self) -> int | None:
        """The largest side that the resize wants."""
        wanted = self._preprocessing.resize
        return max(wanted) if isinstance(wanted, tuple) else wanted

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        config = read_config(self.settings.path)
        if config.get("model_type") not in _MODELS:
            raise SettingsError(
                f"{WHAT}: a picture model of type {config.get('model_type')!r} is not supported",
                hint=f"Supported are {', '.join(sorted(_MODELS))}; others may do as a torchvision encoder.",
            )
        return config

    @functools.cached_property
    def _preprocessing(self) -> Preprocessing:
        facts = _read_preprocessing(read_json(self.settings.path / PREPROCESSOR, WHAT))
        seen = facts.crop or facts.resize
        wanted = self._value("vision_config.image_size" if "vision_config" in self._config else "image_size")
        # DINOv2 interpolates its positions; the others take pictures of one size only.
        if self._config["model_type"] != "dinov2" and seen != (wanted, wanted):
            raise SettingsError(f"{WHAT}: the model sees {wanted} x {wanted} pixels, {PREPROCESSOR} makes {seen}")
        return facts

    @property
    def _pooling(self) -> str:
        model_type = self._config["model_type"]
        pooling = self.settings.pooling
        allowed = _POOLINGS[model_type]
        if pooling not in ("auto", *allowed):
            raise SettingsError(f"encoder.pooling: {model_type} gives {', '.join(allowed)}, not {pooling}")
        return allowed[0] if pooling == "auto" else pooling

    def _dim(self) -> int:
        path = _MODELS[self._config["model_type"]][1]
        if path == "projection_dim" and self._pooling != "projection":
            path = "vision_config.hidden_size"
        return self._value(path)

    def _value(self, path: str) -> int:
        """A number of config.json, by its path."""
        value: Any = self._config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:  # left out of config.json where it is the class's default
            config: Any = import_transformers().AutoConfig.from_pretrained(
                str(self.settings.path), local_files_only=True, trust_remote_code=False
            )
            value = functools.reduce(getattr, path.split("."), config)
        return int(value)

    def _weights_hash(self) -> str:
        _ = self._pooling, self._preprocessing  # a directory that does not fit is refused before it is hashed
        return hash_files(self.files)

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """Weights, configuration and preprocessor."""
        return media_files(self.settings.path)

    def network(self) -> torch.nn.Module:
        """The vision side as transformers loads it."""
        _ = self._preprocessing
        model_class, config = self._described
        may_lack = () if self._pooling == "pooler" else ("pooler.",)
        model: torch.nn.Module = load_model(model_class, self.settings.path, may_lack, config=config)
        return model

    def skeleton(self) -> torch.nn.Module:
        """The vision side's shapes."""
        model_class, config = self._described
        with torch.device("meta"):
            model: torch.nn.Module = model_class(config)
        return model

    @property
    def beside_text(self) -> bool:
        """Whether it is one of two sides, saved among the weights of both."""
        return "vision_config" in self._config

    @property
    def _described(self) -> tuple[Any, Any]:
        """The class of the vision side, and its configuration."""
        transformers = import_transformers()
        model_type, path = self._config["model_type"], self.settings.path
        config = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        if model_type == "clip":  # the vision part's own copy of this number is often wrong
            config.vision_config.projection_dim = config.projection_dim
        return getattr(transformers, _MODELS[model_type][0]), getattr(config, "vision_config", config)

    def _save_weights(self, network: Any, folder: Path) -> None:
        """The vision side of two goes back among the weights of both."""
        if not self.beside_text:
            super()._save_weights(network, folder)
            return
        paths = [path for name, path in self.files if name.endswith(".safetensors")]
        write_changed(paths, network.state_dict(), folder / "model.safetensors", ("", "vision_model."))

    @functools.cached_property
    def _scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        facts = self._preprocessing
        std = torch.tensor(facts.std)
        return (facts.scale / std).view(-1, 1, 1), (-torch.tensor(facts.mean) / std).view(-1, 1, 1)

    def _prepare_picture(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """The crop that the model sees, uint8 [3, H, W]."""
        facts = self._preprocessing
        if facts.resize is not None:
            picture = picture.resize(_size_after(picture.size, facts.resize), Image.Resampling(facts.resample))
        if facts.crop is not None:
            height, width = facts.crop
            left, top = (picture.width - width) // 2, (picture.height - height) // 2
            picture = picture.crop((left, top, left + width, top + height))  # beyond the edges: black
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def vectors(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        """Pooled outputs of normalised pixels."""
        scale_C11, shift_C11 = (part.to(batch[0].device) for part in self._scale_and_shift)
        pixels_BCHW = (batch[0] * scale_C11 + shift_C11).to(self._dtype)
        vectors_BD = self._pool(network(pixel_values=pixels_BCHW)).float()
        return torch.nn.functional.normalize(vectors_BD, dim=1) if self.settings.normalize else vectors_BD

    def _pool(self, output: Any) -> torch.Tensor:
        tokens_BTD: torch.Tensor = output.last_hidden_state
        pooling = self._pooling
        if pooling in ("projection", "pooler"):
            pooled: torch.Tensor = output.image_embeds if pooling == "projection" else output.pooler_output
            return pooled
        if self._config["model_type"] == "siglip":  # it has no class token
            return tokens_BTD.mean(dim=1)
        return tokens_BTD[:, 0] if pooling == "cls" else tokens_BTD[:, 1:].mean(dim=1)


def _read_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """Both generations of the file: sizes as one number, or by name. Raises SettingsError where it makes no sense."""
    try:
        return _parse_preprocessing(config)
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{WHAT}: {PREPROCESSOR} cannot be used ({type(error).__name__}: {error})") from error


def _parse_preprocessing(config: dict[str, Any]) -> Preprocessing:
    resize: tuple[int, int] | int | None = None
    if config.get("do_resize", True):
        size = config.get("size")
        if isinstance(size, dict):
            both = (size.get("height"), size.get("width"))
            resize = both if None not in both else size.get("shortest_edge")  # type: ignore[assignment]
        else:
            resize = size if config.get("do_center_crop") or size is None else (size, size)
        if resize is None:
            raise SettingsError(f"{WHAT}: {PREPROCESSOR} does not say the size to resize to")
    crop = config.get("crop_size") if config.get("do_center_crop") else None
    if isinstance(crop, dict):
        crop = (crop["height"], crop["width"])
    elif crop is not None:
        crop = (crop, crop)
    if isinstance(resize, int) and crop is None:
        raise SettingsError(f"{WHAT}: {PREPROCESSOR} resizes the shorter side and crops nothing: sizes would differ")
    if resize is None and crop is None:
        raise SettingsError(f"{WHAT}: {PREPROCESSOR} neither resizes nor crops: sizes would differ")
    normalised = config.get("do_normalize", True)
    mean, std = (tuple(config[key]) if normalised else None for key in ("image_mean", "image_std"))
    if normalised and not (len(mean or ()) == len(std or ()) == 3 and min(std or (0,)) > 0):
        raise ValueError("image_mean and image_std must be three numbers each, those of image_std above zero")
    return Preprocessing(
        resize=resize,
        crop=crop,
        resample=Image.Resampling(config.get("resample", Image.Resampling.BILINEAR)),
        scale=float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
        mean=mean or (0.0, 0.0, 0.0),
        std=std or (1.0, 1.0, 1.0),
    )


def _size_after(size: tuple[int, int], wanted: tuple[int, int] | int) -> tuple[int, int]:
    """(width, height) after resizing to (height, width), or so that the shorter side is `wanted`."""
    if isinstance(wanted, tuple):
        return wanted[1], wanted[0]
    width, height = size
    short, long = min(size), max(size)
    other = int(wanted * long / short)
    return (wanted, other) if width <= height else (other, wanted)
