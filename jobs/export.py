"""Writes the recommendations for other systems."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.export import check_export, export

if __name__ == "__main__":
    sys.exit(run_job("export", [("export", export)], sys.argv[1:], say=print, check=check_export))
