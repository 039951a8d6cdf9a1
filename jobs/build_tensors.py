"""Writes item and sequence tensors as Petastorm datasets."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.tensors import TENSORS

    return run_job("tensors", [TENSORS], arguments, print)


if __name__ == "__main__":
    start(main, print)
