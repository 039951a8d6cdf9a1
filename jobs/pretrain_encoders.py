"""Lets encoders learn the catalog before they encode it."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.pretrain import PRETRAIN

    return run_job("pretrain", [PRETRAIN], arguments, print)


if __name__ == "__main__":
    start(main, print)
