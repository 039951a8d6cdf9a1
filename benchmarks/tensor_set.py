"""The tensor set that the training benchmarks run on: a given one, or one of random numbers of the movies' size."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.config import load_settings
from crossweave.feeding.datasets import describe_file, part_files
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.feeding.schema import SEQUENCES, items_schema, present_field, vector_field
from crossweave.feeding.writer import write_dataset
from crossweave.storage.location import Location
from crossweave.training.plan import TrainingPlan
from crossweave.training.planning import training_plan

ITEMS, USERS, MEAN_LENGTH, LONGEST, HELD_OUT = 3883, 6700, 104, 500, 10
MODALITIES = {"image": 1280, "people": 512, "tags": 128, "text": 384, "year": 25}
ROW_GROUP = 495


def words(description: str | None) -> argparse.ArgumentParser:
    """The words that both scripts take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tensors", type=Path, help="folder of a tensor set; default: a random one of the same size")
    parser.add_argument("--set", action="append", default=[], dest="pairs", metavar="KEY=VALUE")
    return parser


def plan_of(given: argparse.Namespace, work: Path, pairs: list[str]) -> TrainingPlan:
    """Plan a training with the default settings, over which come `pairs` and then those of the command line."""
    manifest = load_manifest(given.tensors) if given.tensors else write_random(work / "tensors")
    if manifest is None:
        raise SystemExit(f"{given.tensors} is not a tensor set")
    settings = load_settings([], [*pairs, *given.pairs])
    place = Location.of(work)
    return training_plan(settings, manifest, place / "model", place / "progress.jsonl", "warm")


def what(given: argparse.Namespace, plan: TrainingPlan) -> str:
    """Name the tensor set."""
    manifest = load_manifest(plan.tensors)
    assert manifest is not None
    kind = "a tensor set of the movies" if given.tensors else "random tensors of the movies' size"
    return f"{kind}: {manifest.users:,} users in {manifest.rows('sequences'):,} rows, {manifest.items:,} items"


def run(work: Callable[..., Any], arguments: tuple[Any, ...], ranks: int, folder: Path) -> Any:
    """Run a function on ranks that `horovod.run` starts on this machine, without Spark; rank 0's result.

    The memory-mapped arrays of the host go below `folder`: no other training has or loses them.
    """
    import horovod

    from crossweave.training.collective import Limits, _environment

    own = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "TMPDIR": str(folder)}
    os.environ.update(_environment(Limits(120)) | own)
    hosts = f"localhost:{ranks}"
    return horovod.run(work, args=arguments, num_proc=ranks, hosts=hosts, use_gloo=True, network_interfaces={"lo"})[0]


def write_random(folder: Path) -> Manifest:
    """Write items and sequences with the writer of the tensors stage."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    share_N = 1.0 / np.arange(10, ITEMS + 10)
    lengths = np.clip(rng.lognormal(np.log(MEAN_LENGTH) - 0.5, 1.0, USERS), 2, LONGEST).astype(int)
    rows: list[dict[str, Any]] = []
    popularity_N = np.zeros(ITEMS, np.float32)
    for user, length in enumerate(lengths):
        taken = rng.choice(ITEMS, length + HELD_OUT, replace=False, p=share_N / share_N.sum()).astype("<i4")
        items, held_out = taken[:length], taken[length:]
        popularity_N[items] += 1
        times = np.arange(length, dtype="<i8")
        parts = {"items": items, "weights": np.ones(length, "<f4"), "times": times, "held_out": held_out}
        parts["attributes"] = np.empty(0, "<i4")
        rows.append({"user_index": user, "position": user} | {name: part.tobytes() for name, part in parts.items()})
    binary = [(name, pa.binary()) for name in ("attributes", "items", "weights", "times", "held_out")]
    schema = pa.schema([("user_index", pa.int32()), ("position", pa.int32()), *binary])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "rows.parquet")
    columns: dict[str, Any] = {
        "item_index": np.arange(ITEMS, dtype=np.int32),
        "popularity": popularity_N,
        "candidate": np.ones(ITEMS, bool),
    }
    for name, dim in MODALITIES.items():
        vectors_ND = rng.standard_normal((ITEMS, dim), dtype=np.float32).astype("<f2")
        columns[vector_field(name)] = pa.array([row.tobytes() for row in vectors_ND], pa.binary())
        columns[present_field(name)] = rng.random(ITEMS) < 0.9
    pq.write_table(pa.table(columns), folder / "columns.parquet")
    spark = bench.spark(1)
    frame = spark.read.parquet(str(folder / "columns.parquet"))
    place = Location.of(folder)
    write_dataset(spark, frame, items_schema(MODALITIES), place / "items", "item_index", ITEMS, 1)
    frame = spark.read.parquet(str(folder / "rows.parquet"))
    groups = -(-USERS // ROW_GROUP)
    write_dataset(spark, frame, SEQUENCES, place / "sequences", "position", ROW_GROUP, groups)
    spark.stop()
    files = [tuple(map(describe_file, part_files(place / name))) for name in ("items", "sequences")]
    manifest = Manifest(place, os.urandom(16).hex(), MODALITIES, ITEMS, USERS, *files)
    manifest.save()
    return manifest
