"""The contract of an encoder: values in, one float32 vector a value out, and a reason for every value refused.

Letters in names: B values of one batch, D the encoder's dimension.
"""

from __future__ import annotations

import abc
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt
import pydantic

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Failure:
    """Why the value at `position` has no vector; `transient` where another try may succeed."""

    position: int
    reason: str
    detail: str
    transient: bool = False


@dataclass(frozen=True)
class Prepared:
    """The CPU side of a batch: `examples[i]` came from `values[positions[i]]`, the rest is in `failures`."""

    examples: list[Any]
    positions: list[int]
    failures: list[Failure]


class BadValueError(ValueError):
    """A value cannot be encoded; `reason` is its code in the quarantine, `detail` one plain sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that the error pickles
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class EncoderSettings(pydantic.BaseModel):
    """Base of each encoder's settings: frozen, unknown keys forbidden, numbers finite."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Encoder(abc.ABC):
    """Turns values of one modality kind into vectors of one length.

    A subclass gives `name`, `Settings`, `code_version`, `_dim`, `_prepare_one` (or `prepare`) and `_encode`; one
    with weights also `_load` and `_weights_hash`; one that learns statistics of the catalog sets `learns` and gives
    `_fit`. An encoder travels to workers by pickle, always without what `load` built.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[EncoderSettings]]
    code_version: ClassVar[int] = 1
    """Raised by whoever changes this encoder's code such that vectors change."""
    decoder_version: ClassVar[int] = 0
    """Raised by whoever changes a decoder that encoders share such that vectors change, or that it reads more."""
    neutral_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings that leave the vectors as they are (paths, limits, batch sizes): kept out of the fingerprint."""
    isolated: ClassVar[bool] = False
    """Whether `prepare` decodes formats whose decoders may crash or hang, and belongs in a decoder process."""
    window: ClassVar[int] = 4096
    """Values prepared at a time: enough to sort by length, few enough to hold in memory."""
    learns: ClassVar[bool] = False
    """Whether `fit` must see a sample of the catalog first (document frequencies, means, vocabularies)."""

    def __init__(self, kind: str, settings: EncoderSettings) -> None:
        self.kind = kind
        self.settings = settings
        self._loaded = False
        self._learned: Mapping[str, Any] | None = None

    @property
    def learned(self) -> Mapping[str, Any]:
        """What `fit` found, as JSON-able values: part of the fingerprint. Raises RuntimeError before `fit`."""
        if self._learned is None:
            if self.learns:
                raise RuntimeError(f"encoder {self.name!r} was used before it was fitted to the catalog")
            return {}
        return self._learned

    @final
    def fit(self, values: Iterable[Any]) -> None:
        """Learn from a sample of the catalog's values, of which bad ones are passed over; see `learned`."""
        self.restore(self._fit(values))

    @final
    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take over what an earlier `fit` found, so that vectors of many nights stay comparable."""
        self._learned = dict(learned)
        for cached in ("dim", "fingerprint"):
            self.__dict__.pop(cached, None)

    @functools.cached_property
    def dim(self) -> int:
        """Length of a vector; no weights are loaded for it. Raises SettingsError where files are missing."""
        return self._dim()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that decides a vector: name, kind, code version, settings, weights' content, what was
        learned, and the precision.

        The same settings and weights in another folder give the same fingerprint.
        """
        facts = {
            "identity": self.identity,
            **({"learned": self.learned} if self.learns else {}),
            "precision": self.precision,
        }
        return _digest(facts)

    @functools.cached_property
    def identity(self) -> str:
        """Hex SHA-256 of what decides a vector and is known before `fit` and the self-test of this machine."""
        facts = {
            "name": self.name,
            "kind": self.kind,
            "code_version": self.code_version,
            **({"decoder_version": self.decoder_version} if self.decoder_version else {}),
            "settings": self.settings.model_dump(mode="json", exclude=set(self.neutral_settings)),
            "weights": self._weights_hash(),
        }
        return _digest(facts)

    @property
    def precision(self) -> str:
        """What the encoder computes in: float32, or something faster whose vectors differ a little."""
        return "float32"

    @property
    def open_choices(self) -> bool:
        """Whether the settings leave something for a self-test of this machine to choose."""
        return False

    def settle(self, precision: str, backend: str) -> None:
        """Take over what a self-test chose; settings that name a choice still win."""

    @property
    def loaded(self) -> bool:
        """Whether `load` has been called in this process."""
        return self._loaded

    @final
    def load(self, device: str = "cpu") -> None:
        """Load the weights onto `device` (a torch device name). Raises SettingsError where files do not fit."""
        self._load(device)
        self._loaded = True

    def warm_up(self) -> None:
        """Import and read what `prepare` needs: in a decoder process, memory is limited from then on."""

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Decode or tokenise on the CPU; a bad value becomes a failure and leaves its neighbours alone.

        Raises TypeError on None: a missing value has no content, and callers keep it away from encoders.
        """
        prepared = Prepared([], [], [])
        for position, value in enumerate(values):
            refuse_none(position, value)
            try:
                example = self._prepare_one(value)
            except Exception as error:
                prepared.failures.append(failure_of(position, error))
            else:
                prepared.examples.append(example)
                prepared.positions.append(position)
        return prepared

    @final
    def encode(self, examples: list[Any]) -> FloatArray:
        """Vectors of prepared examples, float32 [B, D], in their order. Raises RuntimeError before `load`."""
        self.require_loaded()
        if not examples:
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors_BD = np.ascontiguousarray(self._encode(examples), dtype=np.float32)
        if vectors_BD.shape != (len(examples), self.dim):
            raise RuntimeError(
                f"encoder {self.name!r} returned {vectors_BD.shape} for {len(examples)} examples of dim {self.dim}"
            )
        return vectors_BD

    def cost(self, example: Any) -> int:
        """What one example adds to a batch, in the unit of `batch_budget`; examples are padded to the costliest."""
        return 1

    @property
    def batch_budget(self) -> int:
        """The most padded cost (costliest example × examples) of one `encode` call."""
        return 256

    def require_loaded(self) -> None:
        """Raise RuntimeError unless `load` was called in this process."""
        if not self._loaded:
            raise RuntimeError(f"encoder {self.name!r} was asked to encode before load() was called")

    @abc.abstractmethod
    def _dim(self) -> int: ...

    @abc.abstractmethod
    def _encode(self, examples: list[Any]) -> FloatArray: ...

    def _prepare_one(self, value: Any) -> Any:
        """One example from one value. Raises BadValueError."""
        return value

    def _fit(self, values: Iterable[Any]) -> Mapping[str, Any]:
        """What to keep of a sample, JSON-able and small enough to travel to every worker (a few MB)."""
        return {}

    def _load(self, device: str) -> None:
        """Build what `_encode` needs; nothing, for an encoder without weights."""

    def _weights_hash(self) -> str:
        """Hex hash of the weights' content; empty for an encoder without weights."""
        return ""

    @final
    def with_files(self, **places: Path) -> Self:
        """Return this encoder with its files elsewhere: the same ones, by settings that leave the vectors as they are.

        Raises ValueError for a setting that does not.
        """
        if not places.keys() <= self.neutral_settings:
            raise ValueError(f"{', '.join(places.keys() - self.neutral_settings)} of {self.name} decides vectors")
        moved = object.__new__(type(self))
        moved.__setstate__(self.__getstate__() | {"settings": relocated(self.settings, places)})
        return moved

    def __getstate__(self) -> dict[str, Any]:
        # Weights never travel; dim and fingerprint do, so that a worker need not hash the weights again.
        keys = ("kind", "settings", "_learned", "dim", "identity", "fingerprint")
        return {key: self.__dict__[key] for key in keys if key in self.__dict__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["kind"], state["settings"])  # type: ignore[misc]
        self.__dict__.update(state)


def relocated(settings: EncoderSettings, places: Mapping[str, Path]) -> EncoderSettings:
    """Return settings that name other files, and are otherwise what those that they named made of them."""
    given = {name: str(path) if isinstance(getattr(settings, name), str) else path for name, path in places.items()}
    return settings.model_copy(update=given)


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def refuse_none(position: int, value: Any) -> None:
    """Raise TypeError where a value is None."""
    if value is None:
        raise TypeError(f"value {position} is None: missing values must not reach an encoder")


def failure_of(position: int, error: Exception) -> Failure:
    """The failure that stands for an error raised on the value at `position`."""
    if isinstance(error, BadValueError):
        return Failure(position, error.reason, error.detail)
    # torch.OutOfMemoryError by its name: this module must not import torch.
    transient = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return Failure(position, "encoder_error", f"{type(error).__name__}: {error}"[:200], transient)
