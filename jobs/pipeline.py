"""Every stage in order: from Parquet to recommendations, metrics and the report."""

import sys

from crossweave.runtime.job import Settings, StageList, run_job
from crossweave.stages.demo import make_demo, reads_demo
from crossweave.stages.embed import build_encoders, embed_items
from crossweave.stages.evaluate import check_evaluation, evaluate
from crossweave.stages.export import check_export, export
from crossweave.stages.ingest import ingest_catalog
from crossweave.stages.score import check_scoring, score_users
from crossweave.stages.tensors import build_tensors
from crossweave.stages.train import check_model, train_alignment


def stages(settings: Settings) -> StageList:
    """List the stages of these settings: the demo shop only where it is the input, export only where it has a path."""
    chain: StageList = [
        ("ingest", ingest_catalog),
        ("embed", embed_items),
        ("tensors", build_tensors),
        ("train", train_alignment),
        ("score", score_users),
    ]
    if settings.split.method != "none":
        chain.append(("evaluate", evaluate))
    before: StageList = [("demo", make_demo)] if reads_demo(settings) else []
    after: StageList = [("export", export)] if settings.export.path else []
    return before + chain + after


def check(settings: Settings) -> None:
    """Refuse settings that a late stage could not use before the first one starts."""
    build_encoders(settings)
    check_model(settings)
    check_scoring(settings)
    check_evaluation(settings)
    if settings.export.path:
        check_export(settings)


if __name__ == "__main__":
    sys.exit(run_job("pipeline", stages, sys.argv[1:], say=print, check=check))
