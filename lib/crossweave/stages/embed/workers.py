"""What a Spark task of the embed stage does: contents in, one file of vectors and what failed out."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from crossweave.artifacts.learned import LearnedEncoder, in_place
from crossweave.encoders.base import Encoder
from crossweave.encoders.worker import Encoded, Limits, encode_stream, usable_device
from crossweave.runtime.spark_task import assigned
from crossweave.storage.location import Location
from crossweave.tables.feature_writer import FeatureWriter
from crossweave.tables.vectors import LARGEST


@dataclass(frozen=True)
class Task:
    """What a task needs to know; it travels to the workers by pickle."""

    encoder: Encoder
    learned: LearnedEncoder | None  # whose files the encoder reads, on whichever machine it is
    folder: Location
    date: datetime.date
    device: str
    limits: Limits

    def encoder_here(self) -> Encoder:
        """Return the encoder with its files on this machine."""
        return in_place(self.encoder, self.learned)

    def place(self) -> tuple[str, int]:
        """Return the torch device and the CPU threads that Spark gave this task."""
        gpu, cpus = assigned()
        return usable_device(self.device, gpu), cpus


OUT_OF_RANGE = ("out_of_range", f"a number of the vector is beyond ±{LARGEST:.0f}, what float16 can hold", False)


def encode_partition(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Encode one partition of (content_hash, value) and return which files hold the result."""
    writer = FeatureWriter(task.folder, task.encoder.dim, task.date)
    rows = (row for batch in batches for row in zip(*[column.to_pylist() for column in batch.columns], strict=True))
    for window in encode_stream(task.encoder_here(), rows, task.limits, *task.place()):
        _write(writer, window)
    yield writer.close()


def _write(writer: FeatureWriter, window: Encoded) -> None:
    fits_G = np.abs(window.vectors_GD).max(axis=1, initial=0.0) <= LARGEST
    writer.vectors([key for key, fits in zip(window.keys, fits_G, strict=True) if fits], window.vectors_GD[fits_G])
    rows = [(key, failure.reason, failure.detail, failure.transient) for key, failure in window.failures]
    rows += [(key, *OUT_OF_RANGE) for key, fits in zip(window.keys, fits_G, strict=True) if not fits]
    writer.failures(rows)


def self_test(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Time the encoder's precisions and back ends on a sample, and return the verdict as JSON."""
    import torch

    from crossweave.encoders.neural import NeuralEncoder
    from crossweave.encoders.selftest import choose

    values: list[Any] = [value for batch in batches for value in batch.column(1).to_pylist()]
    device, threads = task.place()
    torch.set_num_threads(threads)
    encoder = task.encoder_here()
    assert isinstance(encoder, NeuralEncoder)  # no other has open choices
    verdict = choose(encoder, values, device, task.limits)
    yield pa.RecordBatch.from_arrays([pa.array([json.dumps(verdict.as_json())])], names=["verdict"])
