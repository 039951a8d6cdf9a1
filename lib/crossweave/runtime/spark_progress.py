"""Shows how many tasks of a Spark job are done while the driver waits for it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from crossweave.runtime.progress import Progress

POLL_SECONDS = 0.5


@contextmanager
def task_progress(spark: SparkSession, progress: Progress, total: int) -> Iterator[None]:
    """Report finished tasks, scaled to `total` units, while the body runs one Spark action."""
    group = uuid.uuid4().hex
    spark.sparkContext.setJobGroup(group, "crossweave")
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(spark, group, progress, total, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", "")


def _watch(spark: SparkSession, group: str, progress: Progress, total: int, done: threading.Event) -> None:
    tracker = spark.sparkContext.statusTracker()
    while not done.wait(POLL_SECONDS):
        finished = planned = 0
        for job in tracker.getJobIdsForGroup(group):
            info = tracker.getJobInfo(job)
            for stage in info.stageIds if info else ():
                stage_info = tracker.getStageInfo(stage)
                if stage_info is not None:
                    finished += stage_info.numCompletedTasks
                    planned += stage_info.numTasks
        if planned:
            progress.update(total * finished // planned)
