"""What the plan job needs: a context that writes no record, and what stages cost when they last ran."""

from __future__ import annotations

import datetime
import json
import tempfile
from pathlib import Path

from crossweave.config import Settings
from crossweave.runtime.result import result_files
from crossweave.runtime.stage import StageContext


def plan_context(settings: Settings, date: datetime.date) -> StageContext:
    """Return a context without a run: nothing is locked, nothing is written."""
    return StageContext(settings, "plan", "plan", date, Path(tempfile.gettempdir()), [])


def last_seconds(context: StageContext, stage: str) -> float | None:
    """Return how long a stage took in the newest run in which it had something to do."""
    for record in result_files(context.workspace):
        result = json.loads(record.text())
        for entry in result["stages"]:
            if entry["name"] == stage and entry["rows_out"]:
                return float(entry["seconds"])
    return None
