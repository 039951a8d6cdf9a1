"""What every page is made with: the templates of this folder, read through importlib.resources (inside a zip too)."""

from __future__ import annotations

import importlib.resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from crossweave.evaluation import formats
from crossweave.evaluation.colours import BASELINE, OURS

GOOD = frozenset({"done", "ok", "noop", "success", "succeeded", "complete", "completed"})
BAD = frozenset({"failed", "error", "aborted", "killed", "refused by the gate", "taken back", "unreadable"})


def page_environment() -> Environment:
    """Return the environment in which every text is escaped and every missing value an error."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        metric=formats.format_metric,
        count=formats.format_count,
        seconds=formats.format_seconds,
        share=formats.format_share,
        score=formats.format_score,
        points=formats.format_points,
        curve=formats.format_curve_value,
        metric_name=formats.format_metric_name,
    )
    environment.globals.update(ours_colour=OURS, baseline_colour=BASELINE)
    return environment


def tone_of(status: str) -> str:
    """Return the class that a status is shown in."""
    word = status.strip().lower()
    return "good" if word in GOOD else "bad" if word in BAD else "plain"


def _template(name: str) -> str:
    return importlib.resources.files("crossweave.evaluation").joinpath(name).read_text("utf-8")
