"""One task's encoding: gather values into windows, prepare the next one while the model computes this one.

Letters in names: G values of a window that got a vector, D the encoder's dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from crossweave.encoders.base import Encoder, Failure, FloatArray, Prepared
from crossweave.encoders.batching import encode_prepared
from crossweave.encoders.isolation import IsolatedPreparer, Preparer, start_spawner
from crossweave.encoders.prefetch import ahead
from crossweave.errors import SettingsError

WINDOW_BYTES = 64 << 20  # values of one window, at the most, unless a single one is larger

_LOADED: dict[str, Encoder] = {}
"""Encoders loaded in this process, by fingerprint: Spark reuses processes, a model is loaded once in each."""


@dataclass(frozen=True)
class Limits:
    """What decoding one value may take; `isolate` False prepares everything in the worker itself."""

    isolate: bool
    seconds: float
    megabytes: int


@dataclass(frozen=True)
class Encoded:
    """One window: the keys of the vectors [G, D], and every other value's key with its failure."""

    keys: list[str]
    vectors_GD: FloatArray
    failures: list[tuple[str, Failure]]


def encode_stream(
    encoder: Encoder, rows: Iterable[tuple[str, Any]], limits: Limits, device: str, threads: int
) -> Iterator[Encoded]:
    """Encode (key, value) rows; every key comes out exactly once, in a vector or in a failure.

    Nothing is loaded where there is no row. Raises SettingsError where the device or the encoder's files are not
    usable, and TypeError where a value is None.
    """
    if limits.isolate:
        start_spawner()  # for any encoder: by the next one's task this process holds a model and a heap to reuse
    with (
        preparing(encoder, limits) as prepare,
        closing(ahead(_prepared(_windows(rows, encoder.window), prepare))) as windows,
    ):
        for keys, prepared in windows:
            yield _encode(loaded(encoder, device, threads), keys, prepared)


@contextmanager
def preparing(encoder: Preparer, limits: Limits) -> Iterator[Callable[[Sequence[Any]], Prepared]]:
    """The encoder's `prepare`, in a decoder process where it decodes formats that may take a process down."""
    if not (encoder.isolated and limits.isolate):
        yield encoder.prepare
        return
    preparer = IsolatedPreparer(encoder, limits.seconds, limits.megabytes)
    try:
        yield preparer.prepare
    finally:
        preparer.close()


def loaded(encoder: Encoder, device: str, threads: int) -> Encoder:
    """The encoder of this process with that fingerprint, loaded on first use onto `device`, as `usable` names it."""
    ready = _LOADED.get(encoder.fingerprint)
    if ready is None:
        import torch

        torch.set_num_threads(threads)
        encoder.load(device)
        ready = _LOADED[encoder.fingerprint] = encoder
    return ready


def usable_device(wish: str, assigned: str | None) -> str:
    """The torch device of a task: the GPU that the scheduler assigned (its index), any GPU, or the CPU.

    Raises SettingsError where cuda is wished for and torch sees no GPU.
    """
    if wish == "cpu":
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        if wish == "cuda":
            raise SettingsError("embed.device=cuda, but torch sees no GPU on a worker", "use auto or cpu")
        return "cpu"
    return f"cuda:{assigned or 0}"


def _windows(rows: Iterable[tuple[str, Any]], most: int) -> Iterator[tuple[list[str], list[Any]]]:
    keys: list[str] = []
    values: list[Any] = []
    size = 0
    for key, value in rows:
        keys.append(key)
        values.append(value)
        size += len(value) if isinstance(value, (str, bytes)) else 0
        if len(keys) >= most or size >= WINDOW_BYTES:
            yield keys, values
            keys, values, size = [], [], 0
    if keys:
        yield keys, values


def _prepared(
    windows: Iterable[tuple[list[str], list[Any]]], prepare: Callable[[list[Any]], Prepared]
) -> Iterator[tuple[list[str], Prepared]]:
    for keys, values in windows:
        yield keys, prepare(values)


def _encode(encoder: Encoder, keys: list[str], prepared: Prepared) -> Encoded:
    vectors_GD, positions, failures = encode_prepared(encoder, prepared)
    return Encoded(
        [keys[position] for position in positions],
        vectors_GD,
        [(keys[failure.position], failure) for failure in failures],
    )
