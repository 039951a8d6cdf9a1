"""What the page of nights and the list of what was served know of a run: the little of its record that they show.

A record is read as the work of a stranger: what is missing or of another type is left out, texts are cut, and nothing
of it makes the reading fail.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LONGEST = 300  # characters of a text
MOST = 40  # stages, figures, reasons and warnings of a run
REFUSED = "PromotionRefusedError"


@dataclass(frozen=True)
class StageFacts:
    """What a stage of a run did."""

    name: str
    seconds: float
    rows_in: int
    rows_out: int
    quarantined: Mapping[str, int]  # reason -> rows


@dataclass(frozen=True)
class Figure:
    """A figure of the summary with its interval."""

    name: str  # "ndcg@20"
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Night:
    """One run; `run_id` is the name of its folder."""

    run_id: str
    job: str = ""
    date: str = ""
    status: str = "unreadable"  # ok, noop, failed
    exit_code: int | None = None
    error: str = ""  # its type
    message: str = ""
    stages: list[StageFacts] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)  # of the summary of its report; empty: it judged nothing
    drift: Mapping[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether the gate refused it."""
        return self.error == REFUSED

    @property
    def started(self) -> str:
        """When it began, UTC, by its name: YYYY-MM-DD HH:MM:SS; empty where the name says nothing."""
        day, _, time = self.run_id[:15].partition("T")
        known = len(day) == 8 and len(time) == 6 and (day + time).isdigit()
        return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}:{time[4:]}" if known else ""

    @property
    def seconds(self) -> float:
        """What its stages took together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def quarantined(self) -> int:
        """Rows that it put aside."""
        return sum(sum(stage.quarantined.values()) for stage in self.stages)


@dataclass(frozen=True)
class ServedRow:
    """One time that what is served changed, or that the gate kept it from changing."""

    when: str  # UTC: YYYY-MM-DD HH:MM:SS; empty: not known
    run_id: str
    date: str
    why: str
    kind: str  # now, before, refused
    lists: int | None = None  # version of the table recommendations
    model: str = ""
    figure: Figure | None = None


def night_of(run_id: str, text: str | bytes) -> Night:
    """Read what a record says of a run."""
    try:
        record = _object(json.loads(text))
    except (ValueError, RecursionError):
        record = {}
    if not record:
        return Night(run_id)
    error, stages = _object(record.get("error")), [_object(entry) for entry in _list(record.get("stages"))]
    drift = {
        _text(name).removeprefix("evaluate.drift."): value
        for name, given in _object(record.get("metrics")).items()
        if name.startswith("evaluate.drift.") and (value := _number(given)) is not None
    }
    code = _number(record.get("exit_code"))
    return Night(
        run_id=run_id,
        job=_text(record.get("job")),
        date=_text(record.get("date")),
        status=_text(record.get("status")) or "unreadable",
        exit_code=int(code) if code is not None else None,
        error=_text(error.get("type")),
        message=_text(error.get("message")),
        stages=[_stage(entry) for entry in stages],
        figures=[f for entry in stages for given in _given_figures(entry) if (f := figure_of(given)) is not None],
        drift=dict(list(drift.items())[:MOST]),
        warnings=[_text(what) for entry in stages for what in _list(entry.get("warnings"))][:MOST],
    )


def figure_of(given: Any) -> Figure | None:
    """Read a figure of a record; None where it is none."""
    own = _object(given)
    value = _number(own.get("value"))
    name = _text(own.get("name"))
    return (
        Figure(name, value, _number(own.get("low")), _number(own.get("high"))) if name and value is not None else None
    )


def _given_figures(entry: Mapping[str, Any]) -> list[Any]:
    return _list(_object(entry.get("facts")).get("headline"))


def _stage(entry: Mapping[str, Any]) -> StageFacts:
    counts = {_text(reason): _count(rows) for reason, rows in _object(entry.get("quarantined")).items()}
    return StageFacts(
        _text(entry.get("name")),
        max(0.0, _number(entry.get("seconds")) or 0.0),
        _count(entry.get("rows_in")),
        _count(entry.get("rows_out")),
        dict(list(counts.items())[:MOST]),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value[:MOST] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:LONGEST] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if known and math.isfinite(value) else None


def _count(value: Any) -> int:
    return max(0, int(_number(value) or 0))
