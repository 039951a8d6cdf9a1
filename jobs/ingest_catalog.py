"""Reads the catalog: checks the input contract, hashes every content, commits the tables."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.ingest import ingest_catalog

if __name__ == "__main__":
    sys.exit(run_job("ingest", [("ingest", ingest_catalog)], sys.argv[1:], say=print))
