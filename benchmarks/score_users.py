"""S2: users × 1, 2, 4 and items × 1, 2, 4 through what a Spark task of the score stage does: seconds and peak memory.

Each size runs in a process of its own, one thread: batches of 1,024 users in as Arrow, lists with reasons out, dropped
as Spark's writer would take them. The model is a fresh one of 64 numbers a vector; what it has learned costs nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bench
import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.store import WEIGHTS
from crossweave.artifacts.model import MODEL
from crossweave.artifacts.scored import SCORED, save_item_ids
from crossweave.artifacts.sealed import building, publish
from crossweave.config import load_settings
from crossweave.feeding.items import forget_items, host_cache
from crossweave.feeding.manifest import Manifest
from crossweave.stages.score.scorer import Task
from crossweave.stages.score.workers import score_partition
from crossweave.storage.location import Location

DIM, CONTENT, HISTORY, BATCH = 64, 32, 50, 1024


def prepare(folder: Path, items: int) -> Manifest:
    """Write what the stage writes for its tasks: a model, its item vectors, item tensors and ids."""
    rng, generator = np.random.default_rng(0), torch.manual_seed(0)
    spec = ModelSpec({"text": CONTENT}, items, DIM, "attention", "mean", {}, DIM, True, 0.0, 0.0)
    place = Location.of(folder)
    with building(place / "model") as draft:
        save_file(AlignmentModel(spec).state_dict(), draft / WEIGHTS)
        publish(MODEL, draft, place / "model", "benchmark", {"spec": spec.as_json(), "collaborative": {}})
    arrays = {
        "target": torch.randn(items, DIM, generator=generator).numpy(),
        "history": torch.randn(items, DIM, generator=generator).numpy(),
        "bias": torch.randn(items, generator=generator).numpy(),
        "candidate": np.ones(items, bool),
        "center": np.zeros(DIM, np.float32),
    }
    with building(place / "scored") as draft:
        for name, array in arrays.items():
            np.save(draft / f"{name}.npy", array)
        save_item_ids(draft, pa.array([f"item-{index:08d}" for index in range(items)]))
        publish(SCORED, draft, place / "scored", "benchmark", {})
    manifest = Manifest(place / "tensors", f"{items:032x}benchmark", {"text": CONTENT}, items, 0, (), ())
    manifest.save()

    def build(building: Path) -> None:
        np.save(building / "vector-text.npy", rng.standard_normal((items, CONTENT)).astype(np.float16))
        np.save(building / "present.npy", np.ones((items, 1), bool))
        np.save(building / "popularity.npy", np.ones(items, np.float32))
        np.save(building / "candidate.npy", np.ones(items, bool))

    host_cache(manifest).open(build, 0)
    return manifest


def batches(users: int, items: int) -> Iterator[pa.RecordBatch]:
    """Yield users as the stage's query does, made on the way."""
    rng = np.random.default_rng(1)
    for start in range(0, users, BATCH):
        count = min(BATCH, users - start)
        ends = pa.array(np.arange(0, count * HISTORY + 1, HISTORY, dtype=np.int32))
        took = pa.ListArray.from_arrays(ends, pa.array(rng.integers(items, size=count * HISTORY, dtype=np.int32)))
        nothing = pa.array([[]] * count, pa.list_(pa.int32()))
        columns = {
            "user_id": pa.array([f"user-{index}" for index in range(start, start + count)]),
            "history": took,
            "seen": took,
            "user_index": pa.array(np.full(count, -1, np.int32)),
            "attributes": nothing,
            "segments": pa.array(np.zeros(count, np.int32)),
            "blocked": nothing,
        }
        yield pa.RecordBatch.from_pydict(columns)


def measure(folder: Path, users: int, items: int) -> None:
    """Score one size and print seconds and the process's peak memory in MB; the first batch is not timed."""
    score = load_settings(pairs=["score.reasons=3"]).score
    task = Task(
        "bench",
        *(Location.of(folder) / name for name in ("model", "scored", "tensors")),
        datetime.date(2026, 1, 1),
        score,
        0,
        False,
    )
    sum(rows.num_rows for rows in score_partition(task, batches(BATCH, items)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, own = time.perf_counter(), time.process_time()
    rows = sum(part.num_rows for part in score_partition(task, batches(users, items)))
    facts = [time.perf_counter() - wall, time.process_time() - own, rows]
    sys.stdout.write(json.dumps([*facts, before / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    """Run every size in turn and keep times against the first, and peaks."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--users", type=int, default=2048)
    words.add_argument("--items", type=int, default=51_200)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.one:
        measure(Path(given.one[0]), int(given.one[1]), int(given.one[2]))
        return
    sizes = [(given.users * times, given.items) for times in (1, 2, 4)]
    sizes += [(given.users, given.items * times) for times in (2, 4)]
    taken: dict[tuple[int, int], list[list[float]]] = {size: [] for size in sizes}
    for _ in range(given.rounds):
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                manifest = prepare(Path(folder), size[1])
                command = [sys.executable, __file__, "--one", folder, *map(str, size)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                forget_items(manifest)
            taken[size].append(json.loads(done.stdout.splitlines()[-1]))
    best = {size: min(runs, key=lambda run: run[1]) for size, runs in taken.items()}
    first = best[sizes[0]][1]
    rows = [
        (
            f"{users:,} users × {items:,} items",
            f"{best[users, items][0]:.2f} s, {best[users, items][1]:.2f} s CPU = {best[users, items][1] / first:.2f}×; "
            f"peak {best[users, items][4]:.0f} MB, after the first batch {best[users, items][3]:.0f} MB",
        )
        for users, items in sizes
    ]
    rows.append(
        ("counted", f"least CPU time of {given.rounds} rounds; top 50, reasons at 3 ranks, {HISTORY} items seen")
    )
    bench.keep(
        "score_users", "S2: the score stage's task, time and peak memory", "time linear (±10 %), memory flat", rows
    )


if __name__ == "__main__":
    main()
