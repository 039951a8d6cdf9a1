"""Vectors at rest: fixed-length little-endian float16 bytes, half the size and many times the speed of lists."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from crossweave.errors import TableError
from crossweave.tables.damage import DAMAGED, MEND

DTYPE = np.dtype("<f2")
BYTES = DTYPE.itemsize
LARGEST = float(np.finfo(DTYPE).max)


def to_arrow(vectors_BD: np.ndarray) -> pa.Array:
    """Pack float vectors [B, D] into fixed_size_binary(2 D); raises ValueError beyond float16's range (±LARGEST)."""
    rows, dim = vectors_BD.shape
    if not (np.abs(vectors_BD) <= LARGEST).all():
        raise ValueError(f"a vector holds a number that is not finite or beyond ±{LARGEST:.0f}")
    packed = vectors_BD.astype(DTYPE)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(BYTES * dim), rows, [None, pa.py_buffer(np.ascontiguousarray(packed))]
    )


def from_arrow(column: pa.Array | pa.ChunkedArray, dim: int) -> np.ndarray:
    """Unpack a column of vector bytes without nulls into float16 [B, dim]; raises TableError for another length."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    fixed = column if pa.types.is_fixed_size_binary(column.type) else column.cast(pa.binary())
    if not pa.types.is_fixed_size_binary(fixed.type):
        lengths = np.diff(np.frombuffer(fixed.buffers()[1], np.int32)[fixed.offset : fixed.offset + len(fixed) + 1])
        if len(lengths) and (lengths != BYTES * dim).any():
            raise TableError(f"a vector has {int(lengths[lengths != BYTES * dim][0])} bytes instead of {BYTES * dim}")
        start = np.frombuffer(fixed.buffers()[1], np.int32)[fixed.offset] if len(fixed) else 0
        return np.frombuffer(fixed.buffers()[2] or b"", DTYPE, len(fixed) * dim, int(start)).reshape(-1, dim)
    if fixed.type.byte_width != BYTES * dim:
        raise TableError(f"a vector has {fixed.type.byte_width} bytes instead of {BYTES * dim}")
    return np.frombuffer(fixed.buffers()[1], DTYPE, len(fixed) * dim, fixed.offset * BYTES * dim).reshape(-1, dim)


def checks(content_hashes: Sequence[str], packed_BD: np.ndarray) -> pa.Array:
    """Return the CRC-32 of each content hash and vector together, int64; vectors are float16 as at rest."""
    raw, size, crc = memoryview(packed_BD.tobytes()), BYTES * packed_BD.shape[1], zlib.crc32
    starts = range(0, len(raw), size)
    made = [crc(raw[at : at + size], crc(key.encode())) for key, at in zip(content_hashes, starts, strict=True)]
    return pa.array(made, pa.int64())


def harmed(table: str, content_hash: str) -> str:
    """Say that a row of a feature table is not as it was written."""
    return f"table {table} holds another vector of the content {content_hash} than was written"


def check_rows(content_hashes: Sequence[str], packed_BD: np.ndarray, given: pa.ChunkedArray, table: str) -> None:
    """Compare rows of a feature table with their column `check`; raises TableError for one that differs."""
    made = checks(content_hashes, packed_BD)
    for key, was, now in zip(content_hashes, given.to_pylist(), made.to_pylist(), strict=True):
        if was not in (None, now):
            raise TableError(harmed(table, key), MEND)


def unharmed(features: DataFrame, table: str) -> Column:
    """Return the column `vector` of a feature table; the query ends with DAMAGED where a row is not as it was written.

    pyarrow 14 writes no checksums of pages.
    """
    key, vector, check = F.col("content_hash"), F.col("vector"), F.col("check")
    differs = check != F.crc32(F.concat(key.cast("binary"), vector))
    said = F.format_string(DAMAGED + harmed(table, "%s"), key)
    return F.when(F.coalesce(differs, F.lit(False)), F.raise_error(said).cast("binary")).otherwise(vector)


def as_lists(vectors_BD: np.ndarray) -> pa.ListArray:
    """Return vectors as lists of float32, the form that every reader of Parquet knows."""
    count, dim = vectors_BD.shape
    flat = pa.array(np.ascontiguousarray(vectors_BD, np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * dim), flat)


def lists_of(column: pa.ListArray) -> list[np.ndarray]:
    """Return each list of whole numbers as int64, views of one buffer."""
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = column.offsets.to_numpy()
    return np.split(flat, offsets[1:-1] - offsets[0]) if len(column) else []
