"""The batches of an epoch for one rank, the same ones however often the training was interrupted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from crossweave.feeding.manifest import Manifest
from crossweave.feeding.sequences import read_epoch
from crossweave.training.batches import BatchMaker, StepBatch
from crossweave.training.plan import TrainingPlan

Item = TypeVar("Item")
SHUFFLE = 2**31  # stands for a step in the seed of an epoch's order


class EpochFeed:
    """Reads one rank's shard; all ranks take the same number of steps, `steps`, of `train.accumulate` batches each."""

    def __init__(self, manifest: Manifest, maker: BatchMaker, plan: TrainingPlan, rank: int, size: int) -> None:
        self._manifest, self._maker, self._plan, self._rank, self._size = manifest, maker, plan, rank, size
        largest = max(manifest.rows("sequences", shard, size) for shard in range(size))
        self.steps = max(1, math.ceil(largest / (plan.batch_users * plan.accumulate)))

    def read(self, epoch: int, first_step: int) -> Iterator[tuple[int, StepBatch]]:
        """Yield the batches of an epoch from a step on, each with its seed; the next is made while one is used."""
        return one_ahead(self._make(epoch, first_step))

    def _make(self, epoch: int, first_step: int) -> Iterator[tuple[int, StepBatch]]:
        plan, rank = self._plan, self._rank
        # Each rank shuffles its own shard; the seed says which epoch it is, not what ran before.
        seed = plan.step_seed(epoch, SHUFFLE, rank)
        first, count = first_step * plan.accumulate, self.steps * plan.accumulate
        rows_of_batches = read_epoch(self._manifest, rank, self._size, seed, plan.batch_users, count)
        # What is skipped costs its reading, not the making of batches.
        for number, rows in enumerate(islice(rows_of_batches, first, None), start=first):
            batch_seed = plan.step_seed(epoch, number, rank)
            yield batch_seed, self._maker.make(rows, batch_seed)


def one_ahead(source: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of `source`, none of them None, in their order; the next is drawn on a thread meanwhile.

    What the source raises is raised here, after the items before it.
    """
    with ThreadPoolExecutor(1, "feed") as thread:
        following = thread.submit(next, source, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, source, None)
            yield item
