"""Trains the alignment model under Horovod."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.train import TRAIN

    return run_job("train", [TRAIN], arguments, print)


if __name__ == "__main__":
    start(main, print)
