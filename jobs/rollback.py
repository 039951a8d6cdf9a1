"""Serves a run again that was served before: the one before the last, or the one of --to."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job
    from crossweave.stages.rollback import Rollback

    return run_job("rollback", lambda settings, to: [Rollback(to)], arguments, print, {"--to": "RUN"})


if __name__ == "__main__":
    start(main, print)
