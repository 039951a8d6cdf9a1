"""Vectors at rest: fixed-length little-endian float16 bytes, half the size and many times the speed of lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from crossweave.errors import TableError

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
