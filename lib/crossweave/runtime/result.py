"""`run_result.json`: what a run did and how it ended, in a versioned schema.

Exit codes get lost on the way through cluster managers; this file is the truth.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from crossweave import errors
from crossweave.errors import CrossweaveError, InputContractError, TryAgainError
from crossweave.redaction import redacted_all
from crossweave.runtime.record import StageRecord

SCHEMA = 1
INTERRUPTED = {
    "type": "Interrupted",
    "message": "the process ended before it could report",
    "hint": "run the same command again: committed work is kept and the rest is redone",
}
WORKER_ERROR = re.compile(r"crossweave\.errors\.(\w+): (.+)")
INPUT_FILE = re.compile(r"file:/+(\S+?\.parquet)")
UNFIT_VALUE = re.compile(
    r"\[(?:CAST_\w+|DIVIDE_BY_ZERO|ARITHMETIC_OVERFLOW|NUMERIC_\w+|INVALID_ARRAY_INDEX\w*|CANNOT_PARSE_\w+)\] ([^.]*)"
)


class RunResult:
    """The growing record of one run."""

    def __init__(self, folder: Path, run_id: str, job: str, date: datetime.date) -> None:
        self.path = folder / "run_result.json"
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
        known = error if isinstance(error, CrossweaveError) else translate(error)
        self.status = "failed"
        if known is not None:
            self.exit_code = known.exit_code
            self.error = {"type": type(known).__name__, "message": known.message, "hint": known.hint}
        elif isinstance(error, KeyboardInterrupt):
            self.exit_code = 75
            self.error = INTERRUPTED | {"message": "the run was stopped by a signal"}
        else:
            self.exit_code = 1
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.error = {
                "type": type(error).__name__,
                "message": first[:500],
                "hint": f"this is a bug; {self.path.parent / 'log.jsonl'} holds the traceback",
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
        temporary = self.path.with_suffix(".json.new")
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            json.dump(self.as_json(), stream, indent=2, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.path)


def result_files(workspace: Path) -> list[Path]:
    """Name the records of a workspace's runs, the newest first."""
    return sorted(workspace.glob("runs/2*/run_result.json"), reverse=True)


def recent_results(workspace: Path, since: datetime.datetime) -> list[dict[str, Any]]:
    """Return the records of the runs that ended, or wrote to their record, after a time."""
    recent = [path for path in result_files(workspace) if path.stat().st_mtime >= since.timestamp()]
    return [json.loads(path.read_text(encoding="utf-8")) for path in recent]


def _number(value: float) -> float | int | None:
    """Return a figure as JSON can hold it: NaN and infinity become null."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if math.isfinite(plain) else None


def translate(error: BaseException) -> CrossweaveError | None:
    """Turn a failure that the caller can mend into the named error for it; None for everything else."""
    text = str(error)
    raised = WORKER_ERROR.search(text)
    if raised is not None:
        kind = getattr(errors, raised.group(1), None)
        if kind is not None:
            return kind(raised.group(2))
    if (isinstance(error, OSError) and error.errno == 28) or "No space left on device" in text:
        return TryAgainError(
            "the disk is full; nothing was committed", "free some space and run the same command again"
        )
    unfit = UNFIT_VALUE.search(text)
    if unfit is not None:
        return InputContractError(
            f"a value of the input does not fit its expression: {unfit.group(1)}",
            "mend the value, or let the expression give null there (try_cast, try_divide, nullif)",
        )
    damaged = any(word in text for word in ("ParquetDecodingException", "Encountered error while reading file"))
    damaged = damaged or ("Could not read footer" in text or "is not a Parquet file" in text)
    if damaged:
        file = INPUT_FILE.search(text)
        name = "/" + file.group(1).lstrip("/") if file else "an input file"
        return InputContractError(f"{name} is damaged: Spark cannot read its pages", "write the file again")
    return None
