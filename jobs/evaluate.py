"""Judges the recommendations by full ranking and writes the HTML report."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.evaluate import EVALUATE

    return run_job("evaluate", [EVALUATE], arguments, print)


if __name__ == "__main__":
    start(main, print)
