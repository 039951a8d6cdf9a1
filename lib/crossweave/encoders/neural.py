"""What encoders with a network share: where it runs, in which precision, and through which back end.

The precision changes vectors a little and is part of the fingerprint; the back end (memory layout, compilation)
is chosen for speed and leaves them as they are up to rounding.
"""

from __future__ import annotations

import abc
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

from crossweave.encoders.base import Encoder, EncoderSettings, FloatArray
from crossweave.encoders.precision import cast, input_dtype
from crossweave.encoders.weights import INDEX, load_state

Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Backend = Literal["auto", "eager", "channels_last", "compiled"]


class NeuralSettings(EncoderSettings):
    """Settings of every encoder with a network."""

    precision: Precision = Field(
        "auto",
        description="Of the computation. auto: the fastest whose vectors have a cosine of at least 0.99 to float32's, "
        "found by a self-test on the first contents and kept in the workspace.",
    )
    backend: Backend = Field(
        "auto",
        description="How the network runs; auto: the faster of eager and channels_last. compiled takes up to a minute "
        "a worker to start and pays only for very large nights.",
    )


class NeuralEncoder(Encoder):
    """A subclass gives `_build`, `_dim` and `_encode`, which uses `_model`, `_device` and `_dtype`."""

    Settings: ClassVar[type[EncoderSettings]] = NeuralSettings
    neutral_settings: ClassVar[frozenset[str]] = frozenset({"precision", "backend"})  # precision counts on its own
    default_backend: ClassVar[str] = "eager"
    settings: NeuralSettings

    _settled_precision: str | None = None
    _settled_backend: str | None = None
    _device = torch.device("cpu")
    _dtype = torch.float32

    @property
    def precision(self) -> str:
        """As the settings say, else as the self-test chose, else float32."""
        wish = self.settings.precision
        return wish if wish != "auto" else self._settled_precision or "float32"

    @property
    def backend(self) -> str:
        """As the settings say, else as the self-test chose, else what suits this kind of network."""
        wish = self.settings.backend
        return wish if wish != "auto" else self._settled_backend or self.default_backend

    @property
    def open_choices(self) -> bool:
        """Whether precision or back end is left open."""
        return "auto" in (self.settings.precision, self.settings.backend)

    def settle(self, precision: str, backend: str) -> None:
        """Take over what a self-test chose; settings that name a choice still win."""
        self._settled_precision, self._settled_backend = precision, backend
        self.__dict__.pop("fingerprint", None)

    @abc.abstractmethod
    def _build(self) -> torch.nn.Module:
        """The network in float32 on the CPU, in evaluation mode. Raises SettingsError where files do not fit."""

    def _load(self, device: str) -> None:
        self._device = torch.device(device)
        self._dtype = input_dtype(self.precision)
        model = cast(self._build(), self.precision).to(self._device)
        if self.backend == "channels_last":
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs
        if self.backend == "compiled":
            model = torch.compile(model, dynamic=True)  # type: ignore[assignment]
        self._model = model

    def __getstate__(self) -> dict[str, object]:
        chosen = {"_settled_precision": self._settled_precision, "_settled_backend": self._settled_backend}
        return super().__getstate__() | {key: value for key, value in chosen.items() if value}


class TrainableEncoder(NeuralEncoder):
    """One whose network can learn the catalog.

    A subclass gives `network`, `skeleton`, `vectors` and `files`: what is learned with is what encodes.
    """

    place: ClassVar[tuple[str, str]] = ("path", "")
    """The setting that says where its files lie, and what it names in a folder that `save` wrote; empty: the folder."""

    @abc.abstractmethod
    def network(self) -> torch.nn.Module:
        """The network with its weights as they were learned: float32 on the CPU, nothing folded together."""

    @abc.abstractmethod
    def skeleton(self) -> torch.nn.Module:
        """The same network on the meta device: shapes, and no weights."""

    def collate(self, examples: Sequence[Any]) -> tuple[Tensor, ...]:
        """Put prepared examples, arrays of one shape unless a subclass says otherwise, side by side on the CPU."""
        return (torch.from_numpy(np.stack(examples)),)

    @abc.abstractmethod
    def vectors(self, network: Any, *batch: Tensor) -> Tensor:
        """Vectors [B, D] of a collated batch on the network's device; gradients flow where they are asked for."""

    @property
    @abc.abstractmethod
    def files(self) -> tuple[tuple[str, Path], ...]:
        """The files that make it up, each with its name in a folder that `save` writes; weights end in .safetensors."""

    def save(self, network: Any, folder: Path) -> None:
        """Write a changed network so that this encoder reads it with its files in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save_weights(network, folder)
        self.copy_files(folder, weights=False)

    def copy_files(self, folder: Path, weights: bool = True) -> None:
        """Copy what is not in `folder` yet, with or without the weights."""
        for name, path in self.files:
            target = folder / name
            if not target.exists() and (weights or not name.endswith(".safetensors")):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                index = path.parent / INDEX
                if index.is_file() and name.endswith(".safetensors"):  # of weights in several files
                    shutil.copyfile(index, folder / INDEX)

    def _save_weights(self, network: Any, folder: Path) -> None:
        """As transformers saves a model, with the configuration that it has now."""
        network.save_pretrained(str(folder), safe_serialization=True)

    def _build(self) -> torch.nn.Module:
        return self.network()

    def _encode(self, examples: list[Any]) -> FloatArray:
        with torch.inference_mode():
            batch = (part.to(self._device) for part in self.collate(examples))
            out: FloatArray = self.vectors(self._model, *batch).float().cpu().numpy()
            return out


def write_changed(weights: Sequence[Path], learned: dict[str, Tensor], to: Path, inside: Sequence[str] = ("",)) -> None:
    """Write the tensors of weight files to one file, those that were learned anew; a text side and the like stay.

    `inside`: what may stand before the learned tensors' names in the files. Raises ValueError where they have no place.
    """
    state = {name: value for path in weights for name, value in load_state(path, "encoder").items()}
    for prefix in inside:
        named = {f"{prefix}{name}": value for name, value in learned.items()}
        if named.keys() <= state.keys():
            changed = {name: named.get(name, value).to(value.dtype).contiguous() for name, value in state.items()}
            save_file(changed, to, metadata={"format": "pt"})
            return
    left = learned.keys() - state.keys()
    raise ValueError(f"{len(left)} learned weights have no place in the files, such as {min(left)}")
