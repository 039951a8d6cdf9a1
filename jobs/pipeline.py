"""Every stage in order: from Parquet to recommendations, metrics and the report."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave import pipeline
    from crossweave.runtime.job import run_job

    return run_job("pipeline", pipeline.stages, arguments, print)


if __name__ == "__main__":
    start(main, print)
