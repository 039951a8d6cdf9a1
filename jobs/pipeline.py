"""Every stage in order: from Parquet to recommendations, metrics and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossweave.runtime.process import start

if TYPE_CHECKING:
    from crossweave.runtime.job import Settings, StageList


def stages(settings: Settings) -> StageList:
    """List the stages of these settings: the demo shop only where it is the input, export only where it has a path."""
    from crossweave.stages import demo, embed, evaluate, export, ingest, score, tensors, train

    chain: StageList = [
        ("ingest", ingest.ingest_catalog),
        ("embed", embed.embed_items),
        ("tensors", tensors.build_tensors),
        ("train", train.train_alignment),
        ("score", score.score_users),
    ]
    if settings.split.method != "none":
        chain.append(("evaluate", evaluate.evaluate))
    before: StageList = [("demo", demo.make_demo)] if demo.reads_demo(settings) else []
    after: StageList = [("export", export.export)] if settings.export.path else []
    return before + chain + after


def check(settings: Settings) -> None:
    """Refuse settings that a late stage could not use before the first one starts."""
    from crossweave.stages import embed, evaluate, export, score, train

    embed.build_encoders(settings)
    train.check_model(settings)
    score.check_scoring(settings)
    evaluate.check_evaluation(settings)
    if settings.export.path:
        export.check_export(settings)


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import run_job

    return run_job("pipeline", stages, arguments, print, check)


if __name__ == "__main__":
    start(main, print)
