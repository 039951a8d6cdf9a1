"""Trains the alignment model under Horovod."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.train import check_model, train_alignment

    return run_job("train", [("train", train_alignment)], arguments, print, check=check_model)


if __name__ == "__main__":
    start(main, print)
