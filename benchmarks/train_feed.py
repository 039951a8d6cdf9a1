"""T2: how much of a training's time is computing: the loop's own clocks, two ranks of one thread each.

The ranks are started by `horovod.run`, without Spark; the loop, its settings and its clocks are the train stage's.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench
import tensor_set

from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import load_manifest
from crossweave.training.batches import BatchMaker
from crossweave.training.feed import EpochFeed
from crossweave.training.plan import TrainingPlan
from crossweave.training.sample_weights import WeightScale


def rank_main(plan: TrainingPlan) -> dict[str, Any]:
    """One rank's part: trains, and returns the wall time and the loop's figures."""
    from crossweave.training.collective import Collective
    from crossweave.training.loop import train

    collective = Collective()
    start = time.perf_counter()
    outcome = train(plan, collective)
    wall = time.perf_counter() - start
    # What the feed costs a core even where a thread hides it: the same batches made once more, by this thread's clock.
    manifest = load_manifest(plan.tensors)
    assert manifest is not None
    feed = EpochFeed(manifest, BatchMaker(open_items(manifest), plan, WeightScale()), plan, collective.rank, plan.ranks)
    next(feed._make(0, 0))
    start = time.thread_time()
    made = sum(1 for _ in feed._make(0, 0))
    alone = (time.thread_time() - start) / made
    collective.wait()
    collective.close()
    return {"wall": wall, "steps": outcome.steps, "epochs": outcome.epochs, "alone": alone, **outcome.figures}


def main() -> None:
    """Train a few epochs and keep the shares."""
    words = tensor_set.words(__doc__)
    words.add_argument("--epochs", type=int, default=5, help="validated after the last one, as by default")
    given = words.parse_args()
    import train_feed  # under its importable name, as the ranks know it

    with tempfile.TemporaryDirectory() as name:
        pairs = ["train.threads=1", "train.ranks=2", f"train.max_epochs={given.epochs}"]
        plan = tensor_set.plan_of(given, Path(name), pairs)
        plan = replace(plan, patience=given.epochs)
        found = tensor_set.run(train_feed.rank_main, (plan,), plan.ranks, Path(name))
        lines = [json.loads(line) for line in plan.progress.text().splitlines()]
        title = tensor_set.what(given, plan)
    feed, compute, wall = found["feed_seconds"], found["compute_seconds"], found["wall"]
    epochs = [
        line["compute_seconds"] / (line["compute_seconds"] + line["feed_seconds"]) for line in lines if "loss" in line
    ]
    bench.keep(
        "train_feed",
        f"T2: {found['epochs']} epochs of {plan.batch_users} users a step and rank, {plan.ranks} ranks; {title}",
        "compute / wall ≥ 0.9",
        [
            ("steps a rank", f"{found['steps']:,}"),
            ("waiting for the next batch, ms a step", f"{1000 * feed / found['steps']:.1f}"),
            ("computing (with the exchange between ranks), ms a step", f"{1000 * compute / found['steps']:.1f}"),
            ("compute / wall of the steps", f"{compute / (compute + feed):.3f}"),
            ("the same, least and median of the epochs", f"{min(epochs):.3f}, {statistics.median(epochs):.3f}"),
            ("making a batch, ms of a core, hidden or not", f"{1000 * found['alone']:.1f}"),
            (
                "whole training with arrays built, validation and checkpoints, s; compute / that",
                f"{wall:.1f}; {compute / wall:.3f}",
            ),
        ],
    )


if __name__ == "__main__":
    main()
