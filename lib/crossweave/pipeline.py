"""The chain: which stages there are, in which order, and all of them as one run for a Python user."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from crossweave.config import Settings
from crossweave.config.places import check_places
from crossweave.runtime.record import StageRecord
from crossweave.runtime.result import RunResult
from crossweave.runtime.run import Run
from crossweave.runtime.stage import Stage
from crossweave.runtime.tracking import open_trackers
from crossweave.stages.demo import DEMO, reads_demo
from crossweave.stages.embed import EMBED
from crossweave.stages.evaluate import EVALUATE
from crossweave.stages.export import EXPORT
from crossweave.stages.ingest import INGEST
from crossweave.stages.pretrain import PRETRAIN
from crossweave.stages.score import SCORE
from crossweave.stages.tensors import TENSORS
from crossweave.stages.train import TRAIN


def stages(settings: Settings) -> list[Stage[Any]]:
    """List the stages of these settings.

    The demo shop only where it is the input, pretrain only where encoders learn, export only where it has a path.
    """
    learn: list[Stage[Any]] = [PRETRAIN] if settings.pretrain.tasks else []
    chain: list[Stage[Any]] = [INGEST, *learn, EMBED, TENSORS, TRAIN, SCORE]
    if settings.split.method != "none":
        chain.append(EVALUATE)
    before: list[Stage[Any]] = [DEMO] if reads_demo(settings) else []
    after: list[Stage[Any]] = [EXPORT] if settings.export.path else []
    return before + chain + after


def run(
    settings: Settings,
    date: datetime.date | None = None,
    on_stage: Callable[[StageRecord], None] = lambda record: None,
) -> RunResult:
    """Run the whole chain in this process and return its record, which tells of a failure too.

    Raises SettingsError, before anything is written, for settings that cannot be used. `date`: today, UTC.
    """
    check_places(settings)
    chain = stages(settings)
    for stage in chain:
        stage.check(settings)
    today = date or datetime.datetime.now(datetime.UTC).date()
    return Run("pipeline", settings, today, open_trackers(settings)).execute(chain, on_stage)
