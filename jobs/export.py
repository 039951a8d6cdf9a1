"""Writes the recommendations for other systems."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.export import EXPORT

    return run_job("export", [EXPORT], arguments, print)


if __name__ == "__main__":
    start(main, print)
