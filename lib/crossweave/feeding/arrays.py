"""Turns Arrow list columns into raw bytes and back without touching the elements one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def lists_to_bytes(column: pa.ListArray, dtype: np.dtype) -> pa.BinaryArray:
    """Return each list's elements as little-endian bytes; null lists become empty ones.

    Raises ValueError for null elements or elements of another type.
    """
    if column.null_count:
        column = pa.array([value if value is not None else [] for value in column.to_pylist()], column.type)
    values = column.flatten()
    if values.null_count:
        raise ValueError("a list to be stored as bytes holds null elements")
    flat = values.to_numpy(zero_copy_only=False)
    if flat.dtype != dtype:
        raise ValueError(f"expected elements of type {dtype}, got {flat.dtype}")
    offsets = column.offsets.to_numpy()
    offsets = ((offsets - offsets[0]) * dtype.itemsize).astype(np.int32)
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(column), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(flat))]
    )


def bytes_to_arrays(values: Sequence[bytes], dtype: np.dtype) -> list[np.ndarray]:
    """Return one array a value, all of them views of one buffer; raises ValueError for a partial element."""
    partial = [len(value) for value in values if len(value) % dtype.itemsize]
    if partial:
        raise ValueError(f"a value of {partial[0]} bytes is no whole number of {dtype.itemsize}-byte elements")
    flat = np.frombuffer(b"".join(values), dtype)
    ends = np.cumsum([len(value) // dtype.itemsize for value in values])
    return np.split(flat, ends[:-1]) if len(values) else []
