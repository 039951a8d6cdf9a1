"""How ranks end: what a failing one leaves for the driver, and what a run of ranks leaves of the process."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from crossweave import errors
from crossweave.errors import CrossweaveError, TryAgainError
from crossweave.storage.location import Location, entries

REPORT = ".error.json"


def write_report(folder: Location, rank: int, error: Exception) -> None:
    """Put down why a rank failed, where the driver finds it."""
    report = {
        "type": type(error).__name__,
        "message": str(error),
        "hint": error.hint if isinstance(error, CrossweaveError) else "",
        "errno": error.errno if isinstance(error, OSError) else None,
        "traceback": traceback.format_exc(),
    }
    (folder / f"rank-{rank}{REPORT}").put(json.dumps(report))


def reports(folder: Location) -> list[Location]:
    """Return what failed ranks have left, the first of them first."""
    found = [place for place in folder.children() if place.name.endswith(REPORT)]
    written = [(entry.modified, place) for place, entry in zip(found, entries(found), strict=True) if entry is not None]
    return [place for _, place in sorted(written)]


def forget_reports(folder: Location) -> None:
    """Remove the reports of an earlier start."""
    for report in reports(folder):
        report.remove()


def first_failure(folder: Location, error: Exception) -> Exception:
    """Return the error of the rank that failed first; TryAgainError where none said why.

    The ranks' output lies in that folder when the run has ended.
    """
    for place in reports(folder):
        try:
            report = json.loads(place.text())
        except ValueError:
            continue  # the rank was lost while it wrote
        if report["type"] == "HorovodInternalError":
            continue  # the echo of another rank's end
        kind = getattr(errors, report["type"], None)
        if kind is not None:
            return kind(report["message"], report["hint"])
        who = place.name.split(".")[0]
        if report["errno"] is not None:
            return OSError(report["errno"], f"{who}: {report['message']}")
        if report["type"] == "MemoryError":
            return MemoryError(f"{who}: {report['message']}")
        return RuntimeError(f"{who} failed: {report['type']}: {report['message']}")
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return TryAgainError(
        f"a training rank was lost or did not start: {said}",
        f"run the same command again, it goes on from the last checkpoint; the ranks' output is in {folder}",
    )


@contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Put the handlers of SIGTERM and SIGINT back after the body: Horovod sets its own and leaves them behind.

    A scheduler's stop would pass unheard for as long as the process lives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_plainly() -> None:
    """Let this process, whose work is done, end without destructors: those of pyarrow 14 may abort it (SIGABRT)."""
    atexit.register(_end)


def _end() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(1 if getattr(sys, "last_value", None) is not None else 0)  # the error that ended the interpreter
