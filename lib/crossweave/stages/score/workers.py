"""What a Spark task of the score stage does: users in, their lists with reasons out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import torch
from pyspark import TaskContext

from crossweave.stages.score.scorer import Scorer, Task

_SCORERS: dict[str, Scorer] = {}
"""One scorer a worker process: Spark reuses processes for the tasks of a stage."""


def score_partition(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Score one partition of (user_id, history, seen, user_index, attributes)."""
    for scorer, part in _work(task, batches):
        yield scorer.score(part, task.date)


def compared_lists(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[float, int, int]]:
    """Yield the recall of the index, and of how many users, and how many of these it left to the exact kernel."""
    for scorer, part in _work(task, batches):
        share, exactly = scorer.compare(part)
        yield share, part.num_rows, exactly


def _work(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Scorer, pa.RecordBatch]]:
    """Yield the scorer and one part of the users after the other; a partition is never gathered."""
    context = TaskContext.get()
    torch.set_num_threads(max(1, context.cpus() if context else 1))
    for batch in batches:
        if task.key not in _SCORERS:
            _SCORERS.clear()
            _SCORERS[task.key] = Scorer(task)
        for part in _parts(batch, task.settings.block_users):
            yield _SCORERS[task.key], part


def _parts(batch: pa.RecordBatch, most: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch into parts of at most `most` rows, each of one set of segments."""
    segments = batch.column("segments").to_numpy()
    starts = np.flatnonzero(np.diff(segments, prepend=segments[:1] - 1)).tolist()
    for start, stop in itertools.pairwise([*starts, batch.num_rows]):
        for first in range(start, stop, most):
            yield batch.slice(first, min(most, stop - first))
