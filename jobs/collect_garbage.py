"""Removes data that no stage, no recent run and no late reader needs."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.collect import collect_garbage

if __name__ == "__main__":
    sys.exit(run_job("gc", [("gc", collect_garbage)], sys.argv[1:], say=print))
