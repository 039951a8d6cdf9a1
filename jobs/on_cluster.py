"""Runs another job on a cluster that runs its driver too: JOB SPARK_CONF, then the job's own words."""

from collections.abc import Sequence
from pathlib import Path

from crossweave.runtime.process import start

JOBS = Path(__file__).resolve().parent


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.cluster_mode import hand_over

    job, spark_conf, *words = arguments
    package = JOBS.parent / "dist" / "crossweave.zip"
    return hand_over(JOBS / f"{job}.py", Path(spark_conf), package, words, print)


if __name__ == "__main__":
    start(main, print)
