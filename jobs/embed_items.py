"""Encodes the contents of the catalog that have no vector yet, each once."""

import sys

from crossweave.runtime.job import run_job
from crossweave.stages.embed import build_encoders, embed_items

if __name__ == "__main__":
    sys.exit(run_job("embed", [("embed", embed_items)], sys.argv[1:], say=print, check=build_encoders))
