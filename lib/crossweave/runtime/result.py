"""`run_result.json`: what a run did and how it ended, in a versioned schema.

Exit codes get lost on the way through cluster managers; this file is the truth.
"""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

from crossweave.redaction import redacted_all
from crossweave.runtime.faults import translate
from crossweave.runtime.record import StageRecord
from crossweave.runtime.stopping import STOPPED, stopped_by
from crossweave.storage.location import Location, entries
from crossweave.storage.records import Place

SCHEMA = 1
INTERRUPTED = {
    "type": "Interrupted",
    "message": "the process ended before it could report",
    "hint": "run the same command again: committed work is kept and the rest is redone",
}


class RunResult:
    """The growing record of one run."""

    def __init__(self, folder: Place, run_id: str, job: str, date: datetime.date) -> None:
        self.place = Location.of(folder) / "run_result.json"
        self.run_id, self.job, self.date = run_id, job, date
        self.stages: list[StageRecord] = []
        self.status = "failed"
        self.exit_code = 75
        self.error: dict[str, str] | None = INTERRUPTED

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of all stages."""
        return {key: value for stage in self.stages for key, value in stage.flat_metrics().items()}

    def succeed(self) -> None:
        """Mark the run as done, or as having found nothing to do."""
        self.status = "noop" if self.stages and all(stage.noop for stage in self.stages) else "ok"
        self.exit_code, self.error = 0, None

    def fail(self, error: BaseException) -> None:
        """Mark the run as failed by an error, with the exit code that belongs to it."""
        self.status = "failed"
        stop = stopped_by() or ("SIGINT" if isinstance(error, KeyboardInterrupt) else "")
        if stop:  # what the stopped work then ran into is no news
            self.exit_code = STOPPED
            self.error = INTERRUPTED | {"message": f"the run was stopped by a signal ({stop})"}
            return
        known = translate(error)
        if known is not None:
            self.exit_code = known.exit_code
            self.error = {"type": type(known).__name__, "message": known.message, "hint": known.hint}
        else:
            self.exit_code = 1
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.error = {
                "type": type(error).__name__,
                "message": first[:500],
                "hint": f"this is a bug; {self.place.parent / 'log.jsonl'} holds the traceback",
            }

    def as_json(self) -> dict[str, Any]:
        """Return the file's content, without secrets."""
        content: dict[str, Any] = redacted_all(self._content())
        return content

    def _content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "job": self.job,
            "date": self.date.isoformat(),
            "status": self.status,
            "exit_code": self.exit_code,
            "stages": [stage.as_json() for stage in self.stages],
            "metrics": {name: _number(value) for name, value in self.metrics.items()},
            "error": self.error,
        }

    def write(self) -> None:
        """Write the file so that a reader sees the old or the new one."""
        self.place.put(json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")


def result_files(workspace: Location) -> list[Location]:
    """Name the records of a workspace's runs, the newest first."""
    runs = [run for run in reversed((workspace / "runs").children()) if run.name.startswith("2")]
    records = [run / "run_result.json" for run in runs]
    return [record for record, entry in zip(records, entries(records), strict=True) if entry is not None]


def recent_results(workspace: Location, since: datetime.datetime) -> list[dict[str, Any]]:
    """Return the records of the runs that ended, or wrote to their record, after a time."""
    records = result_files(workspace)
    written = zip(records, entries(records), strict=True)
    return [json.loads(record.text()) for record, entry in written if entry is not None and entry.modified >= since]


def _number(value: float) -> float | int | None:
    """Return a figure as JSON can hold it: NaN and infinity become null."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if math.isfinite(plain) else None
