"""Makes the demo shop."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.demo import make_demo

if __name__ == "__main__":
    sys.exit(run_job("demo", [("demo", make_demo)], sys.argv[1:], say=print))
