"""Judges the recommendations by full ranking and writes the HTML report."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.evaluate import check_evaluation, evaluate

    return run_job("evaluate", [("evaluate", evaluate)], arguments, print, check=check_evaluation)


if __name__ == "__main__":
    start(main, print)
