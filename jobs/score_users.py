"""Scores every user: exact top-K with reasons."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.score import SCORE

    return run_job("score", [SCORE], arguments, print)


if __name__ == "__main__":
    start(main, print)
