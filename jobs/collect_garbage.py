"""Removes data that no stage, no recent run and no late reader needs."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.collect import COLLECT

    return run_job("gc", [COLLECT], arguments, print)


if __name__ == "__main__":
    start(main, print)
