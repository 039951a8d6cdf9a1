"""Times an encoder's precisions and back ends on real contents, and chooses the fastest that stays true."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from crossweave.encoders.base import FloatArray
from crossweave.encoders.batching import encode_prepared
from crossweave.encoders.neural import NeuralEncoder
from crossweave.encoders.precision import candidates
from crossweave.encoders.worker import Limits, preparing

MIN_COSINE = 0.99
MIN_GAIN = 1.1  # a choice must be worth a new set of vectors
_REPEATS = 2


@dataclass(frozen=True)
class Trial:
    """One choice's speed, relative to float32 as it comes, and its vectors' mean and least cosine to float32's."""

    precision: str
    backend: str
    speed: float
    mean_cosine: float
    least_cosine: float


@dataclass(frozen=True)
class Verdict:
    """What a machine's self-test chose, and everything it tried."""

    precision: str
    backend: str
    machine: str
    trials: tuple[Trial, ...]

    def as_json(self) -> dict[str, Any]:
        """For the workspace."""
        return asdict(self)


def describe_machine(device: str) -> str:
    """What two machines must share for one's choice to be good for the other."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def choose(encoder: NeuralEncoder, values: Sequence[Any], device: str, limits: Limits) -> Verdict:
    """Try what the settings leave open on `values`, of which bad ones are passed over.

    A precision is eligible where the mean cosine to float32 is at least 0.99; it is taken where it is also at least
    1.1 times as fast. With no good value the encoder's defaults are returned untried.
    """
    reference = _fresh(encoder, "float32", encoder.default_backend)
    with preparing(reference, limits) as prepare:
        prepared = prepare(values)
    machine = describe_machine(device)
    if not prepared.examples:
        return Verdict("float32", encoder.default_backend, machine, ())
    reference.load(device)
    wanted, base = _measure(reference, prepared)
    trials = [Trial("float32", encoder.default_backend, 1.0, 1.0, 1.0)]

    def attempt(precision: str, backend: str) -> Trial:
        one = _fresh(encoder, precision, backend)
        one.load(device)
        vectors, seconds = _measure(one, prepared)
        cosines = _cosines(wanted, vectors) if vectors.shape == wanted.shape else np.zeros(1)
        trial = Trial(precision, backend, base / seconds, float(cosines.mean()), float(cosines.min()))
        trials.append(trial)
        return trial

    best = trials[0]
    if encoder.settings.precision == "auto":
        for precision in candidates(device, reference._model)[1:]:
            trial = attempt(precision, encoder.default_backend)
            if trial.mean_cosine >= MIN_COSINE and trial.speed > max(best.speed, MIN_GAIN):
                best = trial
    if encoder.settings.backend == "auto":
        convolutional = any(isinstance(module, torch.nn.Conv2d) for module in reference._model.modules())
        for backend in {"eager", "channels_last"} - {encoder.default_backend} if convolutional else ():
            trial = attempt(best.precision, backend)
            if trial.mean_cosine >= min(0.9999, best.mean_cosine - 1e-4) and trial.speed > MIN_GAIN * best.speed:
                best = trial
    return Verdict(best.precision, best.backend, machine, tuple(trials))


def _fresh(encoder: NeuralEncoder, precision: str, backend: str) -> NeuralEncoder:
    settings = encoder.settings.model_copy(update={"precision": precision, "backend": backend})
    made = copy.copy(encoder)
    made.settings = settings
    made._loaded = False
    made.__dict__.pop("fingerprint", None)
    return made


def _measure(encoder: NeuralEncoder, prepared: Any) -> tuple[FloatArray, float]:
    """The vectors, and the least seconds of several runs after one to warm up."""
    vectors = encode_prepared(encoder, prepared)[0]
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        encode_prepared(encoder, prepared)
        times.append(time.perf_counter() - start)
    return vectors, min(times)


def _cosines(first_BD: FloatArray, second_BD: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(first_BD, axis=1) * np.linalg.norm(second_BD, axis=1)
    cosines: FloatArray = (first_BD * second_BD).sum(axis=1) / np.maximum(lengths, 1e-12)
    return cosines
