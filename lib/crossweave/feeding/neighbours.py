"""The nearest items of every item, found on the Spark workers, each of which maps the same vectors into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from crossweave.errors import ReconciliationError
from crossweave.storage.arrays import write_array
from crossweave.storage.copies import mark_of, verified
from crossweave.storage.location import Location

Kernel = Callable[[np.ndarray, int, int, int], tuple[np.ndarray, np.ndarray]]
"""(item_ND, start, stop, k) → items int64 and scores float32 [stop − start, k]."""
SCHEMA = "start int, items binary, scores binary"
RANGES_PER_TASK = 4  # so that a slow worker leaves some to the others


def spark_neighbours(
    spark: SparkSession, scratch: Location, kernel: Kernel, item_ND: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the kernel finds for all N items, int64 and float32 [N, k].

    `scratch` is a folder of its own that every worker sees; it is removed. Raises ReconciliationError where the workers
    answered for other items than those asked for.
    """
    place = scratch / "vectors.npy"
    write_array(place, item_ND)
    mark = mark_of(place)
    count = len(item_ND)
    size = max(1, -(-count // (RANGES_PER_TASK * spark.sparkContext.defaultParallelism)))
    ranges = [(start, min(start + size, count)) for start in range(0, count, size)]

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        vectors_ND = np.load(verified(place, mark, "file", "run the same command again"), mmap_mode="c")
        for batch in batches:
            for start, stop in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                items, scores = kernel(vectors_ND, start, stop, k)
                columns = [pa.array([start], pa.int32()), pa.array([items.tobytes()]), pa.array([scores.tobytes()])]
                yield pa.RecordBatch.from_arrays(columns, ["start", "items", "scores"])

    try:
        rows = spark.createDataFrame(ranges, "start int, stop int").repartition(max(1, len(ranges)))
        found = sorted(rows.mapInArrow(work, SCHEMA).collect(), key=lambda row: row["start"]) if ranges else []
    finally:
        scratch.remove()
    items = np.frombuffer(b"".join(row["items"] for row in found), np.int64).reshape(-1, k)
    scores = np.frombuffer(b"".join(row["scores"] for row in found), np.float32).reshape(-1, k)
    if len(items) != count or [row["start"] for row in found] != [start for start, _ in ranges]:
        raise ReconciliationError(f"the workers found neighbours of {len(items):,} items, not of {count:,}")
    return items, scores
