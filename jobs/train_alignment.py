"""Trains the alignment model under Horovod."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.train import check_model, train_alignment

if __name__ == "__main__":
    sys.exit(run_job("train", [("train", train_alignment)], sys.argv[1:], say=print, check=check_model))
