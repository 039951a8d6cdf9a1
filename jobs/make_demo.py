"""Makes the demo shop."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.demo import DEMO

    return run_job("demo", [DEMO], arguments, print)


if __name__ == "__main__":
    start(main, print)
