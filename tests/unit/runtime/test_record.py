"""The ledgers: what comes in must equal what goes out, is skipped and is quarantined."""

from __future__ import annotations

import pytest

from crossweave.errors import ReconciliationError
from crossweave.runtime.record import Ledger, StageRecord


def test_a_ledger_whose_rows_are_all_accounted_for_passes() -> None:
    Ledger(rows_in=10, rows_out=5, skipped=2, quarantined={"empty": 1, "truncated": 2}).check("embed.text")
    Ledger().check("embed.text")


@pytest.mark.parametrize(
    "ledger",
    [
        Ledger(rows_in=10, rows_out=9),
        Ledger(rows_in=10, rows_out=11),
        Ledger(rows_in=10, rows_out=8, skipped=1),
        Ledger(rows_in=10, rows_out=10, quarantined={"empty": 1}),
        Ledger(rows_out=1),
    ],
)
def test_a_ledger_that_lost_or_made_up_rows_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ReconciliationError):
        ledger.check("embed.text")


def test_the_refusal_names_the_stage_and_every_count() -> None:
    with pytest.raises(ReconciliationError) as caught:
        Ledger(rows_in=10, rows_out=5, skipped=2, quarantined={"empty": 1, "torn": 1}).check("embed.text")
    assert caught.value.message == (
        "embed.text: 10 rows came in, but 5 went out, 2 were skipped and 2 quarantined (9 together)"
    )
    assert caught.value.exit_code == 1


def test_a_stage_record_checks_every_ledger_not_only_their_sum() -> None:
    record = StageRecord("ingest", ledgers={"items": Ledger(2, 3), "users": Ledger(3, 2)})
    record.total.check("ingest")  # together they balance
    with pytest.raises(ReconciliationError, match=r"^ingest\.items: 2 rows came in, but 3 went out"):
        record.check()


def test_ledgers_add_up_with_their_reasons() -> None:
    items = Ledger(5, 3, 1, {"empty": 1})
    users = Ledger(4, 2, 0, {"empty": 1, "null_id": 1})
    assert items + users == Ledger(9, 5, 1, {"empty": 2, "null_id": 1})
    assert items.quarantined == {"empty": 1}


def test_a_record_becomes_an_entry_with_exactly_the_agreed_keys() -> None:
    record = StageRecord("embed", seconds=1.23456, reads={"catalog": 3}, writes={"features/text-ab": 1})
    record.ledgers = {"text": Ledger(5, 4, 0, {"torn": 1}), "image": Ledger(3, 1, 1, {"bomb": 1})}
    assert record.as_json() == {
        "name": "embed",
        "seconds": 1.235,
        "rows_in": 8,
        "rows_out": 5,
        "skipped": 1,
        "quarantined": {"bomb": 1, "torn": 1},
        "reads": {"catalog": 3},
        "writes": {"features/text-ab": 1},
        "notes": [],
        "warnings": [],
    }


def test_a_night_with_nothing_to_do_skips_every_row() -> None:
    record = StageRecord("embed", writes={})
    record.nothing_to_do(7, {"catalog": 3}, "no content is new")
    record.check()
    assert record.noop
    assert record.total == Ledger(rows_in=7, skipped=7)
    assert (record.reads, record.note) == ({"catalog": 3}, "no content is new")


def test_metrics_carry_the_stage_and_each_ledger_in_their_names() -> None:
    record = StageRecord("score", metrics={"users_per_second": 12.5}, ledgers={"users": Ledger(3, 1, 1, {"new": 1})})
    assert record.flat_metrics() == {
        "score.users_per_second": 12.5,
        "score.users.rows_in": 3,
        "score.users.rows_out": 1,
        "score.users.skipped": 1,
        "score.users.quarantined": 1,
    }
