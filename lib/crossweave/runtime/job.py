"""The common main of every job: parse, configure, run the stages, say what was done and where it lies, exit."""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from crossweave.config import Settings as Settings  # a job's door to the settings
from crossweave.config import load_settings
from crossweave.config.load import REPOSITORY_CONF
from crossweave.config.places import check_places
from crossweave.config.plain import first_line, short
from crossweave.errors import CrossweaveError, SettingsError
from crossweave.redaction import redacted
from crossweave.runtime.faults import translate
from crossweave.runtime.record import StageRecord
from crossweave.runtime.run import Run
from crossweave.runtime.stage import Stage
from crossweave.runtime.stopping import stoppable
from crossweave.runtime.tracking import open_trackers
from crossweave.storage.location import Location

Say = Callable[[str], None]
StageList = Sequence[Stage[Any]]
FIRST_YEAR, LAST_YEAR = 1970, 2199
NO_WORDS: Mapping[str, str] = {}


def run_job(
    job: str,
    stages: StageList | Callable[..., StageList],
    arguments: Sequence[str],
    say: Say,
    words: Mapping[str, str] = NO_WORDS,
) -> int:
    """Run a job's stages with the settings of its command line; returns the exit code. Nothing secret is said.

    `stages` may depend on the settings, and on the job's own words (option -> what stands for its value), which come by
    their names; each may refuse them before anything is started.
    """
    with stoppable():
        return _run_job(job, stages, arguments, lambda line: say(redacted(line)), words)


def _run_job(
    job: str,
    stages: StageList | Callable[..., StageList],
    arguments: Sequence[str],
    say: Say,
    words: Mapping[str, str],
) -> int:
    try:
        own, settings, date = parse_with(job, arguments, words)
        chosen = stages(settings, **own) if callable(stages) else stages
        for stage in chosen:
            stage.check(settings)
        trackers = open_trackers(settings)
        run = Run(job, settings, date, trackers)
    except Exception as error:
        return refuse(error, say)
    say(f"crossweave {job} · {date} · run {run.run_id}")
    with suppress(SystemExit):  # of some library within a stage: the record says what it was
        run.execute(chosen, lambda record: say(describe(record)))
    result = run.result
    for what in run.warnings:
        say(f"  warning: {what}")
    conclude(result.as_json(), result.place, say)
    return result.exit_code


def parse(job: str, arguments: Sequence[str]) -> tuple[Settings, datetime.date]:
    """Read `--conf`, `--set` and `--date`; raises SettingsError on bad usage."""
    return parse_with(job, arguments, {})[1:]


def parse_with(
    job: str, arguments: Sequence[str], words: Mapping[str, str]
) -> tuple[dict[str, str | None], Settings, datetime.date]:
    """Read a job's own words too (option -> what stands for its value); returns them without dashes first."""
    parser = _Parser(prog=f"submit.sh {job}", add_help=True, allow_abbrev=False)
    parser.add_argument("--conf", action="append", default=[], metavar="FILE", help="settings over conf/base.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="pairs")
    parser.add_argument("--date", default=None, metavar="YYYY-MM-DD", help="the run's date; default: today, UTC")
    for option, stands_for in words.items():
        parser.add_argument(option, default=None, metavar=stands_for)
    given = parser.parse_args(list(arguments))
    own = {name: getattr(given, name.replace("-", "_")) for name in (option.lstrip("-") for option in words)}
    settings = load_settings(given.conf or [REPOSITORY_CONF / "local.yaml"], given.pairs)
    check_places(settings)
    return own, settings, _date(given.date)


def _date(given: str | None) -> datetime.date:
    if given is None:
        return datetime.datetime.now(datetime.UTC).date()
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", given):  # Python takes weeks and more
            raise ValueError
        date = datetime.date.fromisoformat(given)
    except ValueError as error:
        raise SettingsError(f"--date expects YYYY-MM-DD, got {short(given)}") from error
    if not FIRST_YEAR <= date.year <= LAST_YEAR:
        raise SettingsError(f"--date expects a year from {FIRST_YEAR} to {LAST_YEAR}, got {given}")
    return date


def describe(record: StageRecord) -> str:
    """Say in a line or two what a stage did."""
    return tell_stage(record.as_json(), record.note, bool(record.ledgers))


def tell_stage(entry: Mapping[str, Any], note: str = "", counted: bool = True) -> str:
    """Say what a stage did by its entry of a record."""
    parts = [f"{entry['rows_in']:,} in", f"{entry['rows_out']:,} out"]
    if entry["skipped"]:
        parts.append(f"{entry['skipped']:,} skipped")
    if entry["quarantined"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in entry["quarantined"].items())
        parts.append(f"{sum(entry['quarantined'].values()):,} quarantined ({reasons})")
    counts = " · ".join(parts) if counted else "done"
    said = f" · {note}" if note else ""
    more = "".join(f"\n  {line}" for line in (*entry["notes"], *(f"warning: {what}" for what in entry["warnings"])))
    return f"  {entry['name']:<9} {entry['seconds']:7.1f} s  {counts}{said}{more}"


def conclude(result: Mapping[str, Any], place: Location, say: Say) -> None:
    """Say how a run ended by its record, which lies at `place`."""
    if result["error"] is not None:
        for what in result["stages"][-1]["warnings"] if result["stages"] else ():  # of the stage that ended early
            say(f"  warning: {what}")
        say(f"failed (exit {result['exit_code']}): {result['error']['message']}")
        if result["error"]["hint"]:
            say(f"what to do: {result['error']['hint']}")
    else:
        seconds = sum(stage["seconds"] for stage in result["stages"])
        say(f"{'nothing to do' if result['status'] == 'noop' else 'done'} in {seconds:.1f} s")
    with suppress(CrossweaveError, OSError):  # a store that is gone has been told of
        if place.is_file():
            say(f"record: {place}")


def refuse(error: BaseException, say: Say) -> int:
    """Say why a job cannot start, or ended without a record; returns its exit code."""
    known = error if isinstance(error, CrossweaveError) else translate(error)
    if known is None:
        known = CrossweaveError(f"{type(error).__name__}: {first_line(error)}", "this is a bug; please report it")
    say(redacted(f"failed (exit {known.exit_code}): {known.message}"))
    if known.hint:
        say(redacted(f"what to do: {known.hint}"))
    return known.exit_code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message} ({' '.join(self.format_usage().split())})")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.exit(status)
