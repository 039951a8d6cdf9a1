"""Encodes the contents of the catalog that have no vector yet, each once."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.embed import EMBED

    return run_job("embed", [EMBED], arguments, print)


if __name__ == "__main__":
    start(main, print)
