"""Pictures through any torchvision classification model with local weights.

Letters in names: B pictures, C channels, H and W rows and columns, D features.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch.fx.experimental.optimization import fuse

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.neural import NeuralSettings, TrainableEncoder, write_changed
from crossweave.encoders.pictures import ImageEncoder, ImageSettings
from crossweave.encoders.torchvision_compat import import_torchvision
from crossweave.encoders.weights import hash_files, load_state, require_file
from crossweave.errors import SettingsError

torchvision = import_torchvision()
Triple = tuple[float, float, float]
WEIGHTS = "weights.safetensors"
"""The file that a changed network is saved to."""


class TorchvisionSettings(NeuralSettings, ImageSettings):
    """Settings of the torchvision encoder."""

    model: str = Field(description="Name of a torchvision classification model, such as resnet50 or vit_b_32.")
    weights: str = Field(
        description="A .safetensors file (or .pth, read without running its code) with the state_dict; or a name of "
        "torchvision's, such as ResNet50_Weights.IMAGENET1K_V2, whose file must lie in torch hub's folder. Hashed."
    )
    layer: str = Field(
        "features", description="'features': what the classifier's last linear layer gets; or a layer's name, averaged."
    )
    resize: int = Field(256, ge=8, le=4096, description="Pixels of the shorter side before the crop.")
    crop: int = Field(224, ge=8, le=4096, description="Pixels of the centre square that the model sees.")
    mean: Triple = Field(
        (0.485, 0.456, 0.406), description="Subtracted from R, G, B in 0 to 1; as in training (default: ImageNet)."
    )
    std: Triple = Field(
        (0.229, 0.224, 0.225), description="Divides R, G, B after the mean; mean = std = 0.5 gives x / 127.5 - 1."
    )
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="Filter of the resize.")
    tf_same_padding: bool = Field(
        False, description="Pad strided convolutions as TensorFlow does (SAME), for weights that were trained there."
    )
    batch_images: int = Field(8, ge=1, description="Pictures of one call; 4 to 8 suit a CPU core, 256 a GPU.")

    @model_validator(mode="before")
    @classmethod
    def _as_the_named_weights_were_trained(cls, given: Any) -> Any:
        """Weights named as torchvision does bring their own preprocessing; what is set here still wins."""
        known = _named_weights(str(given.get("weights", ""))) if isinstance(given, dict) else None
        if known is None:
            return given
        made = known.transforms()
        facts = {
            "resize": made.resize_size[0],
            "crop": made.crop_size[0],
            "mean": tuple(made.mean),
            "std": tuple(made.std),
            "interpolation": made.interpolation.value,
        }
        return {**facts, **given}

    @model_validator(mode="after")
    def _numbers_fit(self) -> TorchvisionSettings:
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) must not exceed resize ({self.resize})")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above zero, got {list(self.std)}")
        return self


class TorchvisionEncoder(TrainableEncoder, ImageEncoder):
    """JPEG, PNG or WEBP bytes become the features [D] of a torchvision model.

    The shorter side is resized to `resize` (bilinear, antialiased) and the centre `crop` is taken, as ImageNet
    models are evaluated. Failures: those of `stills.decode_image`. Raises SettingsError where model, layer and
    weights do not fit each other.
    """

    name = "torchvision"
    Settings: ClassVar[type[EncoderSettings]] = TorchvisionSettings
    neutral_settings = TrainableEncoder.neutral_settings | ImageEncoder.neutral_settings | {"weights", "batch_images"}
    default_backend = "channels_last"  # 1.7 times as fast for convolutions on a CPU
    place = ("weights", WEIGHTS)
    settings: TorchvisionSettings

    @property
    def batch_budget(self) -> int:
        """Pictures of one call."""
        return self.settings.batch_images

    def _dim(self) -> int:
        model = _network(self.settings)
        with torch.inference_mode():
            side = self.settings.crop
            return int(model(torch.zeros(1, 3, side, side, device="meta")).shape[1])

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """The state_dict."""
        return ((WEIGHTS, _weights_file(self.settings.weights)),)

    def _weights_hash(self) -> str:
        return hash_files([("weights", _weights_file(self.settings.weights))])

    def network(self) -> torch.nn.Module:
        """The model up to its features."""
        return _network(self.settings, load_state(_weights_file(self.settings.weights), "encoder.weights"))

    def skeleton(self) -> torch.nn.Module:
        """The model's shapes, up to its features."""
        return _network(self.settings)

    def _build(self) -> torch.nn.Module:
        model = self.network()
        norms = any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
        if self.settings.layer != "features" or not norms:
            return model
        return fuse(model)  # folds each batch norm into its convolution: the same function, fewer passes

    def _save_weights(self, network: torch.nn.Module, folder: Path) -> None:
        """The classifier, and whatever comes after `layer`, stay as they were."""
        learned = {name.removeprefix(f"{_Averaged.BODY}."): value for name, value in network.state_dict().items()}
        write_changed([_weights_file(self.settings.weights)], learned, folder / WEIGHTS)

    @functools.cached_property
    def _scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """x / 255 − mean, over std, in one multiplication and one addition on the device."""
        std, mean = torch.tensor(self.settings.std), torch.tensor(self.settings.mean)
        return (1 / (255 * std)).view(3, 1, 1), (-mean / std).view(3, 1, 1)

    @property
    def decode_side(self) -> int:
        """The shorter side that the resize wants."""
        return self.settings.resize

    def _prepare_picture(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """The centre crop, uint8 [3, crop, crop]."""
        settings = self.settings
        # The crop's box in source pixels: one resampling of what is kept, instead of resizing and then cutting.
        edge = min(picture.size) * settings.crop / settings.resize
        left, top = ((size - edge) / 2 for size in picture.size)
        box = (left, top, left + edge, top + edge)
        crop = picture.resize((settings.crop, settings.crop), Image.Resampling[settings.interpolation.upper()], box)
        return np.ascontiguousarray(np.asarray(crop).transpose(2, 0, 1))

    def vectors(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        """Features of normalised pixels."""
        layout = torch.channels_last if self.backend == "channels_last" else torch.contiguous_format
        scale_C11, shift_C11 = (part.to(batch[0].device) for part in self._scale_and_shift)
        pixels_BCHW = (batch[0] * scale_C11 + shift_C11).to(self._dtype, memory_format=layout)
        features: torch.Tensor = network(pixels_BCHW)
        return features


def _named_weights(weights: str) -> Any:
    """torchvision's own entry for weights such as ResNet50_Weights.IMAGENET1K_V2; None where it has none."""
    name, _, member = weights.partition("_Weights.")
    return getattr(getattr(torchvision.models, f"{name}_Weights", None), "__members__", {}).get(member)


def _weights_file(weights: str) -> Path:
    """The file itself, or where torch hub keeps the weights that torchvision knows by this name; never downloaded."""
    name, _, member = weights.partition("_Weights.")
    if not member or "/" in weights:
        return require_file(Path(weights), "encoder.weights")
    known = _named_weights(weights)
    if known is None:
        choices = ", ".join(getattr(getattr(torchvision.models, f"{name}_Weights", None), "__members__", ())) or "none"
        raise SettingsError(f"encoder.weights: torchvision has no weights {weights!r}; of this model it has {choices}")
    url = known.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        raise SettingsError(
            f"encoder.weights: there is no file {str(file)!r}",
            hint=f"Nothing is downloaded in a run: fetch {url} once, check it, and put it there on every worker.",
        )
    return file


def _network(settings: TorchvisionSettings, state: dict[str, torch.Tensor] | None = None) -> torch.nn.Module:
    """The model from pixels to features [B, D] in evaluation mode, with `state` as its weights; on the meta device
    (shapes only) where there is none."""
    names = torchvision.models.list_models(module=torchvision.models)
    if settings.model not in names:
        near = difflib.get_close_matches(settings.model, names, n=3)
        raise SettingsError(
            f"encoder.model: torchvision has no classification model {settings.model!r}",
            hint=f"Near matches: {', '.join(near)}." if near else "torchvision.models.list_models() names them all.",
        )
    model = _skeleton(settings.model)
    head = _head_name(model, settings.model)
    wanted_side = getattr(model, "image_size", settings.crop)
    if wanted_side != settings.crop:
        raise SettingsError(f"encoder.crop: {settings.model} expects {wanted_side} pixels, got {settings.crop}")
    model.set_submodule(head, torch.nn.Identity())
    if state is not None:
        body = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
        body = {key: tensor for key, tensor in body.items() if not key.startswith(f"{head}.")}
        try:
            model.load_state_dict(body, strict=True, assign=True)
        except RuntimeError as error:
            raise SettingsError(f"encoder.weights do not fit {settings.model}: {str(error)[:500]}") from error
    if hasattr(model, "aux_logits"):
        model.aux_logits = False  # type: ignore[assignment]  # heads beside the last one, which answer too while a network learns
    if settings.tf_same_padding:
        _pad_like_tensorflow(model)
    if settings.layer != "features":
        return _cut_at(model, settings.layer, head)
    return model


def _skeleton(name: str) -> torch.nn.Module:
    """The model without memory, to be filled from the file: random initial weights cost more than loading does."""
    model: torch.nn.Module
    try:
        with torch.device("meta"):
            model = torchvision.models.get_model(name, weights=None)
    except NotImplementedError:  # some (regnet) compute their widths with tensors while they are built
        model = torchvision.models.get_model(name, weights=None).to("meta")
    return model.eval()


def _head_name(model: torch.nn.Module, name: str) -> str:
    linear = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    if not linear:
        raise SettingsError(f"encoder.model: {name} has no linear classifier, so no features before it")
    return linear[-1]


class _Averaged(torch.nn.Module):
    """A layer's output as [B, D]: maps [B, D, H, W] and token rows [B, T, D] are averaged."""

    BODY = "body"

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(pixels)["out"]
        if out.dim() == 4:
            return out.mean(dim=(2, 3))
        return out.mean(dim=1) if out.dim() == 3 else out.flatten(1)


def _cut_at(model: torch.nn.Module, layer: str, head: str) -> torch.nn.Module:
    layers = [path for path, _ in model.named_modules() if path and path != head]
    if layer not in layers:
        near = difflib.get_close_matches(layer, layers, n=3)
        raise SettingsError(
            f"encoder.layer: the model has no layer {layer!r} before its classifier",
            hint=f"Near matches: {', '.join(near)}." if near else "Use 'features', or one of model.named_modules().",
        )
    return _Averaged(torchvision.models.feature_extraction.create_feature_extractor(model, {layer: "out"})).eval()


def _pad_like_tensorflow(model: torch.nn.Module) -> None:
    """Give strided convolutions TensorFlow's SAME padding: as much as the last window needs, the odd pixel at the
    bottom and right, where torchvision pads all four sides alike."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and max(module.stride) > 1:
            module.padding = (0, 0)
            module.register_forward_pre_hook(_same_padding(module))


def _same_padding(conv: torch.nn.Conv2d) -> Callable[[torch.nn.Module, tuple[torch.Tensor]], tuple[torch.Tensor]]:
    kernel = [(size - 1) * dilation + 1 for size, dilation in zip(conv.kernel_size, conv.dilation, strict=True)]
    stride = list(conv.stride)

    def pad(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        widths: list[int] = []
        for axis in (1, 0):  # torch pads the last axis first
            size = inputs[0].shape[2 + axis]
            total = max((-(-size // stride[axis]) - 1) * stride[axis] + kernel[axis] - size, 0)
            widths += [total // 2, total - total // 2]
        return (torch.nn.functional.pad(inputs[0], widths),)

    return pad
