"""Tells others of a run when it has ended; a tracker is one module and one line here."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Sequence

from crossweave.config import Settings
from crossweave.redaction import redacted
from crossweave.runtime.tracking.base import Tracker as Tracker
from crossweave.runtime.tracking.facts import RunFacts
from crossweave.runtime.tracking.facts import facts_of as facts_of

TRACKERS = {
    "prometheus": "crossweave.runtime.tracking.prometheus:PrometheusFile",
    "mlflow": "crossweave.runtime.tracking.mlflow_runs:MlflowRuns",
    "wandb": "crossweave.runtime.tracking.wandb_runs:WandbRuns",
    "on_failure": "crossweave.runtime.tracking.on_failure:OnFailure",
}
"""Section of `tracking` -> its class; a section that is null asks for none."""

log = logging.getLogger(__name__)


def open_trackers(settings: Settings) -> list[Tracker]:
    """Return the trackers that the settings ask for, in order.

    Raises SettingsError where one could not work: its package is not installed, its folder is not there.
    """
    trackers: list[Tracker] = []
    for name, place in TRACKERS.items():
        own = getattr(settings.tracking, name)
        if own is not None:
            module, _, class_name = place.partition(":")
            trackers.append(getattr(importlib.import_module(module), class_name)(own))
    return trackers


def publish(trackers: Sequence[Tracker], facts: RunFacts, seconds: float) -> list[str]:
    """Tell every tracker of a run; returns a warning for each one that failed or took longer than `seconds`.

    Never raises: the night's work is done, whoever hears of it.
    """
    warnings = []
    for tracker in trackers:
        problem = _within(tracker, facts, seconds)
        if problem:
            warnings.append(redacted(f"the run was not told to {tracker.name}: {problem}"))
            log.warning(warnings[-1])
    return warnings


def _within(tracker: Tracker, facts: RunFacts, seconds: float) -> str:
    """Publish in a thread that is left behind when its time is over; returns what went wrong, empty for nothing."""
    problems = [f"it took longer than {seconds:g} s"]

    def work() -> None:
        try:
            tracker.publish(facts)
            problems.clear()
        except BaseException as error:  # clients of servers raise what they like, SystemExit too
            problems[0] = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:300]}"

    thread = threading.Thread(target=work, daemon=True, name=f"tracking-{tracker.name}")
    thread.start()
    thread.join(seconds)
    return next(iter(problems), "")
