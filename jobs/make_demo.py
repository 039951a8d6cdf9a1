"""Makes the demo shop."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.demo import make_demo

    return run_job("demo", [("demo", make_demo)], arguments, print)


if __name__ == "__main__":
    start(main, print)
