"""Judges the recommendations by full ranking and writes the HTML report."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.evaluate import check_evaluation, evaluate

if __name__ == "__main__":
    sys.exit(run_job("evaluate", [("evaluate", evaluate)], sys.argv[1:], say=print, check=check_evaluation))
