"""F2: writing and reading 100,000 vectors of 384 numbers: float16 bytes of fixed length against list<float> + snappy.

Both sides start from and end with a float32 array [N, 384]; conversions to and from float16 are counted. One thread,
files in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from crossweave.tables.vectors import from_arrow, to_arrow

DIM, GROUP = 384, 8192


def write_ours(path: Path, vectors_ND: np.ndarray) -> None:
    """As FeatureWriter writes: fixed-length bytes, neither compressed nor as a dictionary."""
    pq.write_table(
        pa.table({"vector": to_arrow(vectors_ND)}), path, row_group_size=GROUP, compression="NONE", use_dictionary=False
    )


def read_ours(path: Path) -> np.ndarray:
    """To float32, a row group at a time as the item tensors are read, widened by torch as training does."""
    chunks = pq.read_table(path, use_threads=False)["vector"].chunks
    vectors_ND = torch.empty(sum(len(chunk) for chunk in chunks), DIM)
    done = 0
    for chunk in chunks:
        vectors_ND[done : done + len(chunk)] = torch.from_numpy(from_arrow(chunk, DIM))
        done += len(chunk)
    return vectors_ND.numpy()


def read_ours_as_stored(path: Path) -> np.ndarray:
    """To one float16 array, as training and scoring map it."""
    return from_arrow(pq.read_table(path, use_threads=False)["vector"], DIM)


def write_lists(path: Path, vectors_ND: np.ndarray) -> None:
    """As pyarrow writes list<float> by default: snappy, dictionary where it pays."""
    offsets = pa.array(np.arange(0, vectors_ND.size + 1, DIM, dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors_ND.ravel()))
    pq.write_table(pa.table({"vector": lists}), path, row_group_size=GROUP, compression="SNAPPY")


def read_lists(path: Path) -> np.ndarray:
    """Back to an array, without a Python object a row."""
    column = pq.read_table(path, use_threads=False)["vector"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, DIM)


def main() -> None:
    """Run both sides in turn and keep the ratios; CPU time beside wall time, since the machine may be shared."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rows", type=int, default=100_000)
    words.add_argument("--rounds", type=int, default=9)
    given = words.parse_args()
    pa.set_cpu_count(1)
    torch.set_num_threads(1)
    vectors_ND = np.random.default_rng(0).standard_normal((given.rows, DIM), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        ours, lists = Path(folder) / "ours.parquet", Path(folder) / "lists.parquet"
        sides: dict[str, Callable[[], Any]] = {
            "ours write": lambda: write_ours(ours, vectors_ND),
            "lists write": lambda: write_lists(lists, vectors_ND),
            "ours read": lambda: read_ours(ours),
            "stored read": lambda: read_ours_as_stored(ours),
            "lists read": lambda: read_lists(lists),
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        cpu: dict[str, list[float]] = {side: [] for side in sides}
        for round_number in range(given.rounds + 1):  # the first is not counted
            for side, work in sides.items():
                start, busy = time.perf_counter(), time.process_time()
                work()
                if round_number:
                    times[side].append(time.perf_counter() - start)
                    cpu[side].append(time.process_time() - busy)
        assert np.array_equal(read_ours(ours), vectors_ND.astype("<f2").astype(np.float32))
        assert np.array_equal(read_lists(lists), vectors_ND)
        sizes = ours.stat().st_size, lists.stat().st_size

    def ratio(peer: str, our: str) -> str:
        least = min(times[peer]) / min(times[our])
        middle = statistics.median(times[peer]) / statistics.median(times[our])
        busy = statistics.median(cpu[peer]) / statistics.median(cpu[our])
        return f"{least:.1f}× of the least times, {middle:.1f}× of the medians, {busy:.1f}× of median CPU time"

    def rate(side: str) -> str:
        return f"{given.rows / min(times[side]):,.0f}"

    bench.keep(
        "feed_format",
        f"F2: {given.rows:,} × {DIM} float32 written and read, one thread",
        "write ≥ 2×, read ≥ 4×, bytes ≤ 0.52",
        [
            ("write, float16 bytes of fixed length, uncompressed, rows/s", rate("ours write")),
            ("write, list<float>, snappy, rows/s", rate("lists write")),
            ("write, ratio", ratio("lists write", "ours write")),
            ("read to float32, ours, rows/s", rate("ours read")),
            ("read to float32, list<float>, rows/s", rate("lists read")),
            ("read to float32, ratio", ratio("lists read", "ours read")),
            ("read as stored (float16, as training and scoring keep it), rows/s", rate("stored read")),
            ("read as stored, ratio", ratio("lists read", "stored read")),
            ("bytes, ours / list<float>", f"{sizes[0]:,} / {sizes[1]:,} = {sizes[0] / sizes[1]:.3f}"),
            ("counted", f"{given.rounds} alternated rounds, files in the page cache"),
        ],
    )


if __name__ == "__main__":
    main()
