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
    """Back to float32."""
    return widen(read_ours_as_stored(path))


def read_ours_as_stored(path: Path) -> np.ndarray:
    """Float16, as training and scoring map them."""
    return from_arrow(pq.read_table(path, use_threads=False)["vector"], DIM)


def widen(half_ND: np.ndarray) -> np.ndarray:
    """float16 → float32."""
    return half_ND.astype(np.float32)


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
    """Run both sides in turn and keep the ratios of the least times and of the medians."""
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
        for round_number in range(given.rounds + 1):  # the first is not counted
            for side, work in sides.items():
                start = time.perf_counter()
                work()
                if round_number:
                    times[side].append(time.perf_counter() - start)
        assert np.array_equal(read_ours(ours), vectors_ND.astype("<f2").astype(np.float32))
        assert np.array_equal(read_lists(lists), vectors_ND)
        sizes = ours.stat().st_size, lists.stat().st_size

    def ratio(peer: str, our: str) -> str:
        least, middle = (f(times[peer]) / f(times[our]) for f in (min, statistics.median))
        return f"{least:.1f}× ({middle:.1f}×)"

    def rate(side: str) -> str:
        return f"{given.rows / min(times[side]):,.0f}"

    bench.keep(
        "feed_format",
        f"F2: {given.rows:,} × {DIM} float32 written and read, one thread",
        "write ≥ 2×, read ≥ 4×, bytes ≤ 0.52",
        [
            ("write, float16 bytes of fixed length, uncompressed, rows/s", rate("ours write")),
            ("write, list<float>, snappy, rows/s", rate("lists write")),
            ("write, ratio of the least times (of the medians)", ratio("lists write", "ours write")),
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
