"""Writes vectors and failures from inside a worker, so that no vector ever passes through the JVM.

Files carry a name of their own attempt; the driver commits only those that a finished task named, so a task that
died, was retried or ran twice leaves nothing behind that a reader could see.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.storage.location import Location
from crossweave.storage.records import Place
from crossweave.tables.schema import FEATURES
from crossweave.tables.vectors import checks, from_arrow, to_arrow

FAILURES = pa.schema(
    [
        ("content_hash", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("transient", pa.bool_()),
    ]
)
WRITTEN = pa.schema([("kind", pa.string()), ("file", pa.string()), ("rows", pa.int64())])
"""What a task returns: one row a file, of kind vectors or failures."""


class FeatureWriter:
    """One task's files: vectors and failures, each opened with its first row."""

    def __init__(self, folder: Place, dim: int, date: datetime.date) -> None:
        self._folder, self._dim, self._date = Location.of(folder), dim, date
        self._attempt = uuid.uuid4().hex
        self._vector_schema = FEATURES.set(1, pa.field("vector", pa.binary(2 * dim)))
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._drafts = ExitStack()
        self._rows = {"vectors": 0, "failures": 0}

    def vectors(self, content_hashes: Sequence[str], vectors_BD: np.ndarray) -> None:
        """Append vectors, float32 [B, D], in the order of their content hashes."""
        if not len(content_hashes):
            return
        packed = to_arrow(vectors_BD)
        columns = [
            pa.array(content_hashes, pa.string()),
            packed,
            pa.array(np.full(len(content_hashes), np.datetime64(self._date, "D")), pa.date32()),
            checks(content_hashes, from_arrow(packed, self._dim)),
        ]
        # Vectors are incompressible noise to a codec, and hashes never repeat: compressing either only costs time.
        self._write("vectors", pa.table(columns, schema=self._vector_schema), compression="NONE", use_dictionary=False)

    def failures(self, rows: Sequence[tuple[str, str, str, bool]]) -> None:
        """Append failures: content hash, reason, detail, transient."""
        if rows:
            columns = [
                pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), FAILURES.types, strict=True)
            ]
            self._write("failures", pa.table(columns, schema=FAILURES), compression="ZSTD")

    def close(self) -> pa.RecordBatch:
        """Close the files and return what was written, in the schema `WRITTEN`."""
        for writer in self._writers.values():
            writer.close()
        self._drafts.close()
        kinds = list(self._writers)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(kinds, pa.string()),
                pa.array([self._place(kind).name for kind in kinds], pa.string()),
                pa.array([self._rows[kind] for kind in kinds], pa.int64()),
            ],
            schema=WRITTEN,
        )

    def _place(self, kind: str) -> Location:
        return self._folder / kind / f"part-{self._attempt}.parquet"

    def _write(self, kind: str, table: pa.Table, **options: object) -> None:
        if kind not in self._writers:
            draft = self._drafts.enter_context(self._place(kind).placing())
            self._writers[kind] = pq.ParquetWriter(draft, table.schema, **options)
        self._writers[kind].write_table(table)
        self._rows[kind] += table.num_rows
