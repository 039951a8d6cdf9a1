"""The chain: which stages there are, in which order, and all of them as one run for a Python user."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from crossweave.config import Settings
from crossweave.config.places import check_places
from crossweave.runtime.record import StageRecord
from crossweave.runtime.result import RunResult
from crossweave.runtime.run import Run, Stage
from crossweave.runtime.tracking import open_trackers
from crossweave.stages import demo, embed, evaluate, export, ingest, score, tensors, train


def stages(settings: Settings) -> list[tuple[str, Stage]]:
    """List the stages of these settings: the demo shop only where it is the input, export only where it has a path."""
    chain: list[tuple[str, Stage]] = [
        ("ingest", ingest.ingest_catalog),
        ("embed", embed.embed_items),
        ("tensors", tensors.build_tensors),
        ("train", train.train_alignment),
        ("score", score.score_users),
    ]
    if settings.split.method != "none":
        chain.append(("evaluate", evaluate.evaluate))
    before: list[tuple[str, Stage]] = [("demo", demo.make_demo)] if demo.reads_demo(settings) else []
    after: list[tuple[str, Stage]] = [("export", export.export)] if settings.export.path else []
    return before + chain + after


def check(settings: Settings) -> None:
    """Refuse settings that a late stage could not use before the first one starts."""
    embed.build_encoders(settings)
    train.check_model(settings)
    score.check_scoring(settings)
    evaluate.check_evaluation(settings)
    if settings.export.path:
        export.check_export(settings)


def run(
    settings: Settings,
    date: datetime.date | None = None,
    on_stage: Callable[[StageRecord], None] = lambda record: None,
) -> RunResult:
    """Run the whole chain in this process and return its record, which tells of a failure too.

    Raises SettingsError, before anything is written, for settings that cannot be used. `date`: today, UTC.
    """
    check_places(settings)
    check(settings)
    today = date or datetime.datetime.now(datetime.UTC).date()
    return Run("pipeline", settings, today, open_trackers(settings)).execute(stages(settings), on_stage)
