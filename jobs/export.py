"""Writes the recommendations for other systems."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.export import check_export, export

    return run_job("export", [("export", export)], arguments, print, check=check_export)


if __name__ == "__main__":
    start(main, print)
