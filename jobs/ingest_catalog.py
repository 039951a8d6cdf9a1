"""Reads the catalog: checks the input contract, hashes every content, commits the tables."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.ingest import INGEST

    return run_job("ingest", [INGEST], arguments, print)


if __name__ == "__main__":
    start(main, print)
