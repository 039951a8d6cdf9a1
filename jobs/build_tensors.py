"""Writes item and sequence tensors as Petastorm datasets."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.tensors import build_tensors

if __name__ == "__main__":
    sys.exit(run_job("tensors", [("tensors", build_tensors)], sys.argv[1:], say=print))
