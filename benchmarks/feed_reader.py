"""F1: 100,000 vectors of 384 numbers from Parquet into shuffled batches of 1,024, ours against Petastorm's own ways.

Every side ends with float32 torch tensors [1024, 384], reads row groups of the size that `tensors` writes, one file
each, and shuffles row groups and the rows of about one row group. One thread; Petastorm's dummy pool on all sides,
since its thread pool can lose rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from crossweave.feeding.datasets import describe_file, part_files
from crossweave.feeding.items import forget_items, open_items
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.reader import read_row_groups
from crossweave.storage.location import Location
from crossweave.training.item_tower import gather_items, in_memory

DIM, BATCH, GROUP = 384, 1024, 8192
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]
"""Row numbers [B] and vectors [B, DIM] of each batch."""


def ours_streamed(manifest: Manifest, dtype: str, seed: int) -> Batches:
    """One epoch straight from the row groups: read_row_groups, one np.frombuffer a row group."""
    rng = np.random.default_rng(seed)
    rest_R, rest_RD = np.empty(0, np.int32), np.empty((0, DIM), dtype)
    for group in read_row_groups(manifest, "items", shuffle_seed=seed):
        vectors_RD = np.frombuffer(b"".join(group["vector_text"]), dtype).reshape(-1, DIM)
        index_R, vectors_RD = np.append(rest_R, group["item_index"]), np.concatenate([rest_RD, vectors_RD])
        order = rng.permutation(len(index_R))
        whole = len(order) // BATCH * BATCH
        for start in range(0, whole, BATCH):
            some = order[start : start + BATCH]
            yield torch.from_numpy(index_R[some]), torch.from_numpy(vectors_RD[some]).float()
        rest_R, rest_RD = index_R[order[whole:]], vectors_RD[order[whole:]]
    if len(rest_R):
        yield torch.from_numpy(rest_R), torch.from_numpy(rest_RD).float()


def ours_in_training(manifest: Manifest, seed: int) -> Batches:
    """One epoch as a rank of training feeds its item tower: arrays of the host, then gathered rows of all of them."""
    items = in_memory(open_items(manifest))
    order = np.random.default_rng(seed).permutation(items.count)
    for start in range(0, items.count, BATCH):
        batch = gather_items(items, order[start : start + BATCH])
        yield batch.index_S, batch.vectors["text"]


def lists_batched(urls: list[str], seed: int) -> Batches:
    """make_batch_reader over list<float> and BatchedDataLoader with a shuffling queue of one row group."""
    from petastorm import make_batch_reader
    from petastorm.pytorch import BatchedDataLoader

    reader = make_batch_reader(urls, reader_pool_type="dummy", num_epochs=1, shuffle_row_groups=True, seed=seed)
    with BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=GROUP) as loader:
        for batch in loader:
            yield batch["item_index"], batch["vector"]


def rows_decoded(url: str, seed: int) -> Batches:
    """make_reader over NdarrayCodec and DataLoader with a shuffling queue of one row group."""
    from petastorm import make_reader
    from petastorm.pytorch import DataLoader

    reader = make_reader(url, reader_pool_type="dummy", num_epochs=1, shuffle_row_groups=True, seed=seed)
    with DataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=GROUP) as loader:
        for batch in loader:
            yield batch["item_index"], batch["vector"]


def seconds(batches: Callable[[], Batches], rows: int) -> tuple[float, float]:
    """Time one epoch, by the wall and the CPU; checks that every row came once, in whole batches of the right kind."""
    seen, total = [], 0.0
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # Petastorm prints on closing
        warnings.simplefilter("ignore")
        start, busy = time.perf_counter(), time.process_time()
        for index_B, vectors_BD in batches():
            assert vectors_BD.dtype == torch.float32
            assert vectors_BD.shape[1:] == (DIM,)
            seen.append(index_B)
            total += float(vectors_BD[0, 0])  # the numbers are there, not only promised
        taken = time.perf_counter() - start, time.process_time() - busy
    assert {len(index_B) for index_B in seen[:-1]} <= {BATCH}
    index_R = torch.cat(seen)
    assert torch.equal(index_R.sort().values.long(), torch.arange(rows))
    assert not torch.equal(index_R.long(), torch.arange(rows))
    return taken


def write_ours(spark: Any, folder: Path, vectors_ND: np.ndarray) -> Manifest:
    """Write vectors as the tensors stage writes items."""
    from crossweave.feeding.schema import items_schema
    from crossweave.feeding.writer import write_dataset

    rows = len(vectors_ND)
    folder.mkdir()
    raw = pa.table(
        {
            "item_index": pa.array(np.arange(rows, dtype=np.int32)),
            "popularity": pa.array(np.ones(rows, np.float32)),
            "candidate": pa.array(np.ones(rows, bool)),
            "vector_text": pa.array([row.tobytes() for row in vectors_ND], pa.binary()),
            "present_text": pa.array(np.ones(rows, bool)),
        }
    )
    pq.write_table(raw, folder / "raw.parquet")
    frame = spark.read.parquet(str(folder / "raw.parquet"))
    write_dataset(
        spark, frame, items_schema(["text"]), Location.of(folder) / "items", "item_index", GROUP, -(-rows // GROUP)
    )
    files = tuple(map(describe_file, part_files(Location.of(folder) / "items")))
    return Manifest(Location.of(folder), "f1" + folder.name.ljust(40, "0"), {"text": DIM}, rows, 0, files, ())


def write_lists(folder: Path, vectors_ND: np.ndarray) -> list[str]:
    """Write list<float> as pyarrow does by default, one row group a file like ours."""
    folder.mkdir()
    for number, start in enumerate(range(0, len(vectors_ND), GROUP)):
        part = vectors_ND[start : start + GROUP]
        offsets = pa.array(np.arange(0, part.size + 1, DIM, dtype=np.int32))
        columns = {
            "item_index": pa.array(np.arange(start, start + len(part), dtype=np.int32)),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(part.ravel())),
        }
        pq.write_table(pa.table(columns), folder / f"part-{number:05d}.parquet")
    return [path.as_uri() for path in sorted(folder.glob("*.parquet"))]


def write_codec(spark: Any, folder: Path, vectors_ND: np.ndarray) -> str:
    """Write rows with NdarrayCodec, as Petastorm's documentation shows."""
    from petastorm.codecs import NdarrayCodec, ScalarCodec
    from petastorm.etl.dataset_metadata import materialize_dataset
    from petastorm.unischema import Unischema, UnischemaField, dict_to_spark_row
    from pyspark.sql.types import IntegerType

    fields = [
        UnischemaField("item_index", np.int32, (), ScalarCodec(IntegerType()), False),
        UnischemaField("vector", np.float32, (DIM,), NdarrayCodec(), False),
    ]
    schema = Unischema("vectors", fields)
    rows = [
        dict_to_spark_row(schema, {"item_index": np.int32(number), "vector": row})
        for number, row in enumerate(vectors_ND)
    ]
    with materialize_dataset(spark, folder.as_uri(), schema, 1024):
        spark.createDataFrame(rows, schema.as_spark_schema()).coalesce(1).write.parquet(str(folder))
    return folder.as_uri()


def main() -> None:
    """Run all sides in turn, several times, and keep the medians."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rows", type=int, default=100_000)
    words.add_argument("--sample", type=int, default=GROUP, help="rows of the NdarrayCodec side; its rate is constant")
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    vectors_ND = np.random.default_rng(0).standard_normal((given.rows, DIM), dtype=np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spark = bench.spark(1)
        half = write_ours(spark, folder / "half", vectors_ND.astype("<f2"))
        single = write_ours(spark, folder / "single", vectors_ND)
        lists = write_lists(folder / "lists", vectors_ND)
        codec = write_codec(spark, folder / "codec", vectors_ND[: given.sample])
        spark.stop()

        def first_epoch() -> Batches:
            forget_items(half)
            return ours_in_training(half, 3)

        sides: dict[str, tuple[int, Callable[[], Batches]]] = {
            "streamed float16": (given.rows, lambda: ours_streamed(half, "<f2", 3)),
            "streamed float32": (given.rows, lambda: ours_streamed(single, "<f4", 3)),
            "first epoch": (given.rows, first_epoch),
            "later epoch": (given.rows, lambda: ours_in_training(half, 3)),
            "lists": (given.rows, lambda: lists_batched(lists, 3)),
            "codec": (given.sample, lambda: rows_decoded(codec, 3)),
        }
        times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        try:
            for round_number in range(given.rounds + 1):  # the first is not counted
                for side, (rows, batches) in sides.items():
                    taken = seconds(batches, rows)
                    if round_number:
                        times[side].append((taken[0] / rows, taken[1] / rows))
        finally:
            forget_items(half)
    wall, cpu = ({side: statistics.median(t[n] for t in some) for side, some in times.items()} for n in (0, 1))

    def line(side: str) -> str:
        codec, lists = (f"{wall[peer] / wall[side]:.1f}×" for peer in ("codec", "lists"))
        busy_codec, busy_lists = (f"{cpu[peer] / cpu[side]:.1f}×" for peer in ("codec", "lists"))
        return f"{1 / wall[side]:,.0f}; {codec} and {lists} (in CPU time {busy_codec} and {busy_lists})"

    bench.keep(
        "feed_reader",
        f"F1: {given.rows:,} × {DIM} from Parquet into shuffled batches of {BATCH:,}, one thread, rows/s",
        "≥ 30× make_reader + NdarrayCodec and ≥ 2× list<float> + BatchedDataLoader",
        [
            (
                f"make_reader + NdarrayCodec + DataLoader (on {given.sample:,} rows)",
                f"{1 / wall['codec']:,.0f}",
            ),
            ("make_batch_reader, list<float>, snappy + BatchedDataLoader", f"{1 / wall['lists']:,.0f}"),
            ("ours streamed: read_row_groups, float16 bytes; ratios to the two", line("streamed float16")),
            ("ours streamed, float32 bytes", line("streamed float32")),
            ("ours as training feeds items: first epoch, arrays of the host built in it", line("first epoch")),
            ("ours as training feeds items: every later start, arrays there", line("later epoch")),
            ("counted", f"medians of {given.rounds} alternated rounds; every row of every epoch checked"),
        ],
    )


if __name__ == "__main__":
    main()
