"""Scores every user: exact top-K with reasons."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.score import score_users

if __name__ == "__main__":
    sys.exit(run_job("score", [("score", score_users)], sys.argv[1:], say=print))
