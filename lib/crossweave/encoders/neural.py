"""What encoders with a network share: where it runs, in which precision, and through which back end.

The precision changes vectors a little and is part of the fingerprint; the back end (memory layout, compilation)
is chosen for speed and leaves them as they are up to rounding.
"""

from __future__ import annotations

import abc
from typing import ClassVar, Literal

import torch
from pydantic import Field

from crossweave.encoders.base import Encoder, EncoderSettings
from crossweave.encoders.precision import cast, input_dtype

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
