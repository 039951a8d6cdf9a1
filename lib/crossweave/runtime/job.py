"""The common main of every job: parse, configure, run the stages, say what was done and where it lies, exit."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from crossweave.config import Settings as Settings  # a job's door to the settings
from crossweave.config import load_settings
from crossweave.config.load import REPOSITORY_CONF
from crossweave.errors import CrossweaveError, SettingsError
from crossweave.redaction import redacted
from crossweave.runtime.record import StageRecord
from crossweave.runtime.result import RunResult
from crossweave.runtime.run import Run, Stage
from crossweave.runtime.tracking import open_trackers

Say = Callable[[str], None]
StageList = list[tuple[str, Stage]]


def run_job(
    job: str,
    stages: StageList | Callable[[Settings], StageList],
    arguments: Sequence[str],
    say: Say,
    check: Callable[[Settings], None] | None = None,
) -> int:
    """Run a job's stages with the settings of its command line; returns the exit code. Nothing secret is said.

    `stages` may depend on the settings; `check` may refuse them before anything is started.
    """
    tell, say = say, lambda line: tell(redacted(line))
    try:
        settings, date = parse(job, arguments)
        if check is not None:
            check(settings)
        trackers = open_trackers(settings)
    except CrossweaveError as error:
        return refuse(error, say)
    signal.signal(signal.SIGTERM, _stop)
    chosen = stages if isinstance(stages, list) else stages(settings)
    run = Run(job, settings, date, trackers)
    say(f"crossweave {job} · {date} · run {run.run_id}")
    result = run.execute(chosen, lambda record: say(describe(record)))
    for what in run.warnings:
        say(f"  warning: {what}")
    _conclude(result, run.folder, say)
    return result.exit_code


def parse(job: str, arguments: Sequence[str]) -> tuple[Settings, datetime.date]:
    """Read `--conf`, `--set` and `--date`; raises SettingsError on bad usage."""
    return parse_with(job, arguments, {})[1:]


def parse_with(
    job: str, arguments: Sequence[str], words: Mapping[str, str]
) -> tuple[dict[str, str | None], Settings, datetime.date]:
    """Read a job's own words too (option -> what stands for its value); returns them without dashes first."""
    parser = _Parser(prog=f"submit.sh {job}", add_help=True)
    parser.add_argument("--conf", action="append", default=[], metavar="FILE", help="settings over conf/base.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="pairs")
    parser.add_argument("--date", default=None, metavar="YYYY-MM-DD", help="the run's date; default: today, UTC")
    for option, stands_for in words.items():
        parser.add_argument(option, default=None, metavar=stands_for)
    given = parser.parse_args(list(arguments))
    own = {option.lstrip("-"): getattr(given, option.lstrip("-")) for option in words}
    settings = load_settings(given.conf or [REPOSITORY_CONF / "local.yaml"], given.pairs)
    if given.date is None:
        return own, settings, datetime.datetime.now(datetime.UTC).date()
    try:
        return own, settings, datetime.date.fromisoformat(given.date)
    except ValueError as error:
        raise SettingsError(f"--date expects YYYY-MM-DD, got {given.date!r}") from error


def describe(record: StageRecord) -> str:
    """Say in a line or two what a stage did."""
    total = record.total
    parts = [f"{total.rows_in:,} in", f"{total.rows_out:,} out"]
    if total.skipped:
        parts.append(f"{total.skipped:,} skipped")
    if total.quarantined:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(total.quarantined.items()))
        parts.append(f"{sum(total.quarantined.values()):,} quarantined ({reasons})")
    counts = " · ".join(parts) if record.ledgers else "done"
    note = f" · {record.note}" if record.note else ""
    more = "".join(f"\n  {line}" for line in (*record.notes, *(f"warning: {what}" for what in record.warnings)))
    return f"  {record.name:<9} {record.seconds:7.1f} s  {counts}{note}{more}"


def _conclude(result: RunResult, folder: Path, say: Say) -> None:
    if result.error is not None:
        for what in result.stages[-1].warnings if result.stages else ():  # of the stage that ended early
            say(f"  warning: {what}")
        say(f"failed (exit {result.exit_code}): {result.error['message']}")
        if result.error["hint"]:
            say(f"what to do: {result.error['hint']}")
    else:
        seconds = sum(stage.seconds for stage in result.stages)
        say(f"{'nothing to do' if result.status == 'noop' else 'done'} in {seconds:.1f} s")
    say(f"record: {folder / 'run_result.json'}")


def refuse(error: CrossweaveError, say: Say) -> int:
    """Say why a job cannot start; returns its exit code."""
    say(redacted(f"failed (exit {error.exit_code}): {error.message}"))
    if error.hint:
        say(redacted(f"what to do: {error.hint}"))
    return error.exit_code


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(f"signal {number}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message} ({' '.join(self.format_usage().split())})")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.exit(status)
