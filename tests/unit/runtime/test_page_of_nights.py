"""Every run leaves a page of all nights behind, on every store, cheaply, and never fails by it."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from one_step import Step
from support import chain_of

from crossweave.config import Settings
from crossweave.runtime import nights as of_nights
from crossweave.runtime.nights import nights, served_rows
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import Run
from crossweave.runtime.stage import StageContext
from crossweave.storage.lease import hold
from crossweave.storage.location import Location
from crossweave.tables.promoting import roll_back, serve, target_of
from crossweave.tables.receipt_details import Evaluated
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.served import Promotion, load_served

MakeSettings = Callable[..., Settings]


def works(context: StageContext, record: StageRecord) -> None:
    record.ledgers = {"items": Ledger(5, 4, 0, {"null_id": 1})}
    record.facts = {"headline": [{"name": "ndcg@20", "value": 0.5, "low": 0.4, "high": 0.6}]}


def fails(context: StageContext, record: StageRecord) -> None:
    raise RuntimeError("<b>no luck</b>")


def run(settings: Settings, work: Callable[[StageContext, StageRecord], None] = works) -> Run:
    made = Run("ingest", settings, datetime.date(2026, 3, 1))
    made.execute([Step("weighing", work)], lambda record: None)
    return made


def shown(workspace: Location) -> str:
    page = (workspace / "runs" / "index.html").text()
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def record_of(workspace: Location, run_id: str, **values: object) -> None:
    (workspace / "runs" / run_id / "run_result.json").put(json.dumps({"status": "ok", "exit_code": 0} | values))


def test_each_run_makes_the_page_anew_from_all_of_them(make_settings: MakeSettings, root: Location) -> None:
    settings = make_settings(workspace=str(root))
    first, second = run(settings), run(settings, fails)
    text = shown(root)
    assert f"{first.run_id} " in text and f"{second.run_id} " in text
    assert "NDCG@20 0.5000 (0.4000 to 0.6000)" in text and "1 quarantined" in text
    assert "exit 1" in text and "RuntimeError <b>no luck</b>" in text
    assert "Nothing is served." in text
    assert {night.run_id: night.status for night in nights(root)} == {second.run_id: "failed", first.run_id: "ok"}


def test_a_page_that_cannot_be_made_is_a_warning_in_the_log(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "ws" / "runs" / "index.html").mkdir(parents=True)
    done = run(make_settings())
    assert done.result.exit_code == 0
    log = (done.folder / "log.jsonl").read_text(encoding="utf-8")
    (line,) = [line for line in map(json.loads, log.splitlines()) if "page of nights" in str(line)]
    assert line["level"] == "WARNING"


def test_a_run_that_does_not_hold_the_workspace_leaves_the_page_to_the_one_that_does(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings()
    with hold(Location.of(tmp_path / "ws"), "another"):
        refused = run(settings)
    assert refused.result.exit_code == 75
    assert not (tmp_path / "ws" / "runs" / "index.html").exists()
    run(settings)
    assert f"{refused.run_id} " in shown(Location.of(tmp_path / "ws"))


def test_a_run_without_a_record_or_with_a_torn_one_does_not_hide_the_others(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    record_of(place, "20260101T000000-a", job="whole")
    (place / "runs" / "20260102T000000-b" / "run_result.json").put("{")
    (place / "runs" / "20260103T000000-c" / "config.yaml").put("")  # has only begun
    assert [(night.run_id[-1], night.job, night.status) for night in nights(place)] == [
        ("b", "", "unreadable"),
        ("a", "whole", "ok"),
    ]


def test_only_the_last_nights_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_nights, "MOST", 2)
    for day in (1, 2, 3):
        record_of(Location.of(tmp_path), f"2026010{day}T000000-a")
    assert [night.run_id[:8] for night in nights(Location.of(tmp_path))] == ["20260103", "20260102"]


def test_what_was_served_when_is_told_with_the_nights_that_the_gate_refused(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    assert served_rows(place, False, []) == []
    for run_id in ("20260101T000000-a", "20260102T000000-b"):
        chain = chain_of(run_id, {}, {"recommendations": 4}, "m")
        for receipt in chain:
            Receipts(place).publish(receipt)
        serve(place, chain, "2026-01-02", run_id, Promotion("passed the gate", {"name": "ndcg@20", "value": 0.5}))
    served = load_served(place)
    assert served is not None
    roll_back(place, served, target_of(served, None), "20260103T000000-rollback")
    refused = {"type": "PromotionRefusedError", "message": "it is worse"}
    record_of(place, "20260104T000000-d", status="failed", exit_code=4, error=refused, date="2026-01-04")
    record_of(place, "20260104T010000-other")
    rows = served_rows(place, True, nights(place))
    assert [(row.kind, row.run_id[6:8], row.why) for row in rows if row.kind != "refused"] == [
        ("now", "01", "rollback by command, 20260103T000000-rollback"),
        ("before", "02", "passed the gate"),
        ("before", "01", "passed the gate"),
    ]
    (told,) = [row for row in rows if row.kind == "refused"]
    assert (told.run_id, told.why, told.when) == ("20260104T000000-d", "it is worse", "2026-01-04 00:00:00")

    new = chain_of("20260105T000000-e", {}, {"recommendations": 5}, "m").score
    Receipts(place).publish(new)
    assert [row.kind for row in served_rows(place, True, [])] == ["now", "before", "before"]  # it waits for the gate
    rows = served_rows(place, False, [])
    assert [(row.kind, row.lists) for row in rows] == [("now", 5), ("before", 4), ("before", 4), ("before", 4)]
    assert rows[0].why == "scored, not evaluated"
    Receipts(place).publish(Receipt("evaluate", "e", "e", {}, {}, 1, Evaluated(judged=new.run_id, refused=["worse"])))
    assert [row.kind for row in served_rows(place, False, [])] == ["now", "before", "before"]
