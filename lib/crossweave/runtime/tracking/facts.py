"""What others are told of a run: figures and choices, never a user's id or a row of data.

Messages and paths are for whoever is called when it failed, and for nobody else.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossweave import __version__
from crossweave.config import Settings, saved_settings
from crossweave.redaction import redacted
from crossweave.runtime.record import StageRecord
from crossweave.runtime.result import RunResult

TOLD = ("seed", "split", "tensors", "model", "train")
"""Sections of the settings that are told: those that decide a model. The others hold paths, or rules over users."""


@dataclass(frozen=True)
class RunFacts:
    """One run that has ended."""

    run_id: str
    job: str
    date: str  # YYYY-MM-DD
    status: str  # ok | noop | failed
    exit_code: int
    error: str  # its type; empty: none
    stages: Sequence[StageRecord]
    metrics: Mapping[str, float]  # those of run_result.json that are finite
    settings: Mapping[str, str]  # section.key -> value
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)  # name -> (epoch, value)
    folder: Path = Path()  # of the run, for what a tracker leaves on disk
    ended: float = 0.0  # seconds since 1970
    version: str = __version__
    message: str = ""  # of the error, as are the next two: redacted, for `on_failure` alone
    hint: str = ""
    record: str = ""  # where run_result.json lies

    @property
    def seconds(self) -> float:
        """What the stages took together."""
        return sum(stage.seconds for stage in self.stages)


def facts_of(result: RunResult, settings: Settings, folder: Path) -> RunFacts:
    """Return what may be told of a run."""
    return RunFacts(
        run_id=result.run_id,
        job=result.job,
        date=result.date.isoformat(),
        status=result.status,
        exit_code=result.exit_code,
        error=result.error["type"] if result.error else "",
        stages=list(result.stages),
        metrics={name: float(value) for name, value in result.metrics.items() if math.isfinite(value)},
        settings=dict(_flat("", {name: part for name, part in saved_settings(settings).items() if name in TOLD})),
        curves={
            f"{stage.name}.{name}": [(x, y) for x, y in points if math.isfinite(y)]
            for stage in result.stages
            for name, points in stage.curves.items()
        },
        folder=folder,
        ended=time.time(),
        message=redacted(result.error["message"]) if result.error else "",
        hint=redacted(result.error["hint"] or "") if result.error else "",
        record=str(result.place),
    )


def _flat(above: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(f"{above}.{key}" if above else str(key), below)
    else:
        yield above, value if isinstance(value, str) else json.dumps(value)
