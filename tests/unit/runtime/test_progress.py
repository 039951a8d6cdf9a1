"""Progress and the log: a bar on a terminal, a line every 30 s elsewhere, and one JSON object a log line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from crossweave.runtime import progress as progress_module
from crossweave.runtime.log import close_log, open_log
from crossweave.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A clock that stands until it is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    yield clock


def test_a_file_gets_a_line_every_30_seconds_and_none_before(clock: SimpleNamespace) -> None:
    stream = io.StringIO()
    progress = Progress("embed text", 1000, "texts", stream)
    for clock.now, done in ((101.0, 10), (129.9, 299), (130.0, 300), (131.0, 310), (159.9, 500), (160.0, 600)):
        progress.update(done)
    assert stream.getvalue().splitlines() == [
        "embed text  30% 300/1,000 texts · 10.0/s · 70 s left",
        "embed text  60% 600/1,000 texts · 10.0/s · 40 s left",
    ]


def test_a_terminal_gets_one_bar_that_is_drawn_over(clock: SimpleNamespace) -> None:
    stream = Terminal()
    progress = Progress("embed text", 100, "texts", stream)
    for clock.now, done in ((100.1, 1), (101.0, 25), (101.1, 26), (102.0, 50)):
        progress.update(done, "loss 0.5")
    drawn = stream.getvalue().split("\r\x1b[K")
    assert drawn[0] == "" and "\n" not in stream.getvalue()
    assert drawn[1:] == [
        f"embed text {'█' * 6}{'░' * 18}  25% 25/100 texts · 25.0/s · 3 s left · loss 0.5",
        f"embed text {'█' * 12}{'░' * 12}  50% 50/100 texts · 25.0/s · 2 s left · loss 0.5",
    ]


def test_closing_clears_the_bar_and_leaves_one_line_with_the_rate(clock: SimpleNamespace) -> None:
    stream = Terminal()
    progress = Progress("embed text", 100, "texts", stream)
    clock.now = 102.0
    progress.update(50)
    clock.now = 104.0
    progress.close(100, "done")
    assert stream.getvalue().endswith("\r\x1b[Kembed text: 100 texts in 4.0 s (25.0/s) · done\n")


def test_work_that_ends_at_once_or_has_no_units_divides_by_nothing(clock: SimpleNamespace) -> None:
    stream = io.StringIO()
    Progress("embed text", 0, "texts", stream).close(0)
    assert stream.getvalue() == "embed text: 0 texts in 0.0 s (0.0/s)\n"
    stream = io.StringIO()
    progress = Progress("embed text", 0, "texts", stream)
    clock.now = 140.0
    progress.update(0)
    assert stream.getvalue() == "embed text 100% 0/0 texts · 0.0/s · …\n"


def test_more_done_than_was_planned_stays_at_100_percent(clock: SimpleNamespace) -> None:
    stream = io.StringIO()
    progress = Progress("scan", 10, "rows", stream)
    clock.now = 140.0
    progress.update(20)
    assert stream.getvalue() == "scan 100% 20/10 rows · 0.5/s · …\n"


def test_the_closing_line_goes_to_the_run_s_log_too(tmp_path: Path, clock: SimpleNamespace) -> None:
    handler = open_log(tmp_path / "log.jsonl")
    Progress("scan", 10, "rows", io.StringIO()).close(10)
    close_log(handler)
    entry = json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8"))
    assert entry["message"] == "scan: 10 rows in 0.0 s (0.0/s)"


def test_every_log_line_is_one_json_object_with_utc_time(tmp_path: Path) -> None:
    handler = open_log(tmp_path / "log.jsonl")
    logger = logging.getLogger("crossweave.tables.store")
    logger.info('two\nlines, "quotes", ü and %s', "an argument")
    try:
        raise ValueError("a reason\nover two lines")
    except ValueError:
        logger.exception("unexpected")
    logger.debug("not of interest")
    close_log(handler)
    logger.info("after the run")
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(e["level"], e["logger"], e["message"]) for e in entries] == [
        ("INFO", "crossweave.tables.store", 'two\nlines, "quotes", ü and an argument'),
        ("ERROR", "crossweave.tables.store", "unexpected"),
    ]
    assert all(len(e["time"]) == 24 and e["time"].endswith("Z") for e in entries)
    assert "traceback" not in entries[0]
    assert entries[1]["traceback"].endswith("ValueError: a reason\nover two lines")


def test_a_file_name_that_is_no_text_still_makes_a_log_line(tmp_path: Path) -> None:
    handler = open_log(tmp_path / "log.jsonl")
    logging.getLogger("crossweave.x").info("bad name: %s", b"caf\xe9".decode("utf-8", "surrogateescape"))
    close_log(handler)
    entry = json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8"))
    assert entry["message"].startswith("bad name: caf")
