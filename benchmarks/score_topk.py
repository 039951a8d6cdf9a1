"""S1: top-100 of 204,800 items for 1,024 users, d = 128: the kernel against faiss, the product alone and Spark's ALS.

faiss cannot hide a user's seen items before its cut, so its side does less. ALS is Spark's `recommendForAllUsers` on
the very same factors in one local[2] session; there both sides read users from Spark and no items are hidden.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench
import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

from crossweave.scoring.topk import BLOCK_ITEMS, Kernel

SEEN = 100  # items hidden from each user


def rounds(sides: dict[str, Callable[[], Any]], count: int) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and CPU seconds of each side, all sides once a round; a first round is not counted."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in sides}
    for turn in range(count + 1):
        for name, work in sides.items():
            wall, own = time.perf_counter(), time.process_time()
            work()
            if turn:
                taken[name][0].append(time.perf_counter() - wall)
                taken[name][1].append(time.process_time() - own)
    return taken


def kernel_of(item_ND: np.ndarray) -> Kernel:
    """Return the kernel over these factors: no bias, all allowed."""
    items = torch.from_numpy(item_ND)
    return Kernel(items, torch.zeros(len(items)), allowed_N=torch.ones(len(items), dtype=torch.bool))


def same_sets(user_UD: np.ndarray, item_ND: np.ndarray, ours_UK: np.ndarray, theirs_UK: np.ndarray) -> str:
    """Say how many users get the same set of items, and how near the scores of the other items are (in float64)."""
    gaps = []
    for user_D, ours_K, theirs_K in zip(user_UD, ours_UK, theirs_UK, strict=True):
        other = np.setxor1d(ours_K, theirs_K)
        if len(other):
            scores = item_ND[other].astype(np.float64) @ user_D.astype(np.float64)
            gaps.append(float(np.ptp(scores) / np.abs(scores).max()))
    nearness = f"; the others' items at the cut differ by {max(gaps):.1e} of their scores" if gaps else ""
    return f"{len(ours_UK) - len(gaps):,} of {len(ours_UK):,} users{nearness}"


def als_sides(user_UD: np.ndarray, item_ND: np.ndarray, k: int, folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Return both sides on Spark, each giving items [U, K]."""
    spark = bench.spark(2, **{"spark.sql.execution.arrow.maxRecordsPerBatch": "1024"})
    frames = {}
    for name, factors in (("users", user_UD), ("items", item_ND)):
        flat = pa.ListArray.from_arrays(
            pa.array(np.arange(0, factors.size + 1, factors.shape[1], dtype=np.int32)), pa.array(factors.ravel())
        )
        table = pa.table({"id": pa.array(np.arange(len(factors), dtype=np.int32)), "features": flat})
        pa.parquet.write_table(table, folder / f"{name}.parquet")
        frames[name] = spark.read.parquet(str(folder / f"{name}.parquet")).repartition(4).cache()
        frames[name].count()
    np.save(folder / "items.npy", item_ND)
    java = spark.sparkContext._jvm.org.apache.spark.ml.recommendation
    als = java.ALSModel("als", user_UD.shape[1], frames["users"]._jdf, frames["items"]._jdf)
    als.setUserCol("user").setItemCol("item")

    def theirs() -> np.ndarray:
        from pyspark.sql import DataFrame

        frame = DataFrame(als.recommendForAllUsers(k), spark)
        rows = frame.selectExpr("user as id", "recommendations.item as items").toPandas().sort_values("id")
        return np.stack(rows["items"].to_numpy())

    path = str(folder / "items.npy")

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        torch.set_num_threads(1)
        kernel = kernel_of(np.load(path, mmap_mode="c"))
        for batch in batches:
            vectors = batch.column("features").flatten().to_numpy(zero_copy_only=False)
            users = torch.from_numpy(vectors.reshape(batch.num_rows, -1).copy())
            best = kernel.best(users, k, masked=[np.zeros(0, np.int64)] * batch.num_rows)
            ends = pa.array(np.arange(0, best.items_UK.size + 1, k, dtype=np.int32))
            items = pa.ListArray.from_arrays(ends, pa.array(best.items_UK.ravel().astype(np.int32)))
            yield pa.RecordBatch.from_arrays([batch.column("id"), items], ["id", "items"])

    def ours() -> np.ndarray:
        rows = frames["users"].mapInArrow(score, "id int, items array<int>").toPandas().sort_values("id")
        return np.stack(rows["items"].to_numpy())

    return {"ours on Spark": ours, "ALS": theirs}


def main() -> None:
    """Run all sides in turn and keep the ratios."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--users", type=int, default=1024)
    words.add_argument("--items", type=int, default=204_800)
    words.add_argument("--k", type=int, default=100)
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--als-users", type=int, default=1024)
    given = words.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    user_UD = rng.standard_normal((given.users, 128), dtype=np.float32)
    item_ND = rng.standard_normal((given.items, 128), dtype=np.float32)
    masked = [rng.choice(given.items, SEEN, replace=False) for _ in range(given.users)]
    users, items, kernel = torch.from_numpy(user_UD), torch.from_numpy(item_ND), kernel_of(item_ND)
    index = faiss.IndexFlatIP(128)
    index.add(item_ND)
    buffer = torch.empty(given.users, BLOCK_ITEMS)

    def product() -> None:
        for start in range(0, given.items - BLOCK_ITEMS + 1, BLOCK_ITEMS):
            torch.mm(users, items[start : start + BLOCK_ITEMS].T, out=buffer)

    nothing = [np.zeros(0, np.int64)] * given.users
    equal = same_sets(
        user_UD, item_ND, kernel.best(users, given.k, masked=nothing).items_UK, index.search(user_UD, given.k)[1]
    )
    sides = {
        "ours": lambda: kernel.best(users, given.k, masked=masked),
        "faiss": lambda: index.search(user_UD, given.k),
        "product": product,
    }
    taken = rounds(sides, given.rounds)
    wall = {name: statistics.median(times[0]) for name, times in taken.items()}
    own = {name: (statistics.median(times[1]), min(times[1])) for name, times in taken.items()}
    rows = [
        (f"{name}: wall median; CPU median, least (s)", f"{wall[name]:.3f}; {own[name][0]:.3f}, {own[name][1]:.3f}")
        for name in sides
    ]
    for other in ("faiss", "product"):
        ratios = [own[other][place] / own["ours"][place] for place in (0, 1)]
        rows.append((f"{other} / ours, CPU median, least", f"{ratios[0]:.2f}×, {ratios[1]:.2f}×"))
    rows.append(("same item sets as faiss, nothing hidden", equal))
    if given.als_users:
        with tempfile.TemporaryDirectory() as folder:
            on_spark = als_sides(user_UD[: given.als_users], item_ND, given.k, Path(folder))
            lists = {name: work() for name, work in on_spark.items()}
            spark_wall = {name: bench.seconds(work, 1) for name, work in on_spark.items()}
        found = same_sets(user_UD[: given.als_users], item_ND, lists["ours on Spark"], lists["ALS"])
        ours, theirs = spark_wall["ours on Spark"], spark_wall["ALS"]
        rows += [
            (
                f"ALS / ours on Spark, {given.als_users} users, local[2]",
                f"{theirs:.1f} s / {ours:.1f} s = {theirs / ours:.1f}×",
            ),
            ("same item sets as ALS", found),
        ]
    rows.append(("counted", f"{given.rounds} alternated rounds; one thread; faiss {faiss.__version__}"))
    title = f"S1: {given.users:,} users × {given.items:,} items, d = 128, top {given.k}, {SEEN} seen items hidden"
    bench.keep("score_topk", title, "≥ 0.9× faiss IndexFlatIP, ≥ 0.7 of the product, ≥ 20× ALS, same sets", rows)


if __name__ == "__main__":
    main()
