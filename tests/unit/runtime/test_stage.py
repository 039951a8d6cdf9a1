"""What every stage is given: nothing is done twice, and a receipt appears last, when nothing is missing."""

from __future__ import annotations

import ast
import datetime
from pathlib import Path
from typing import Any

import pytest

from crossweave.errors import ReconciliationError
from crossweave.runtime.plan import plan_context
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext, perform
from crossweave.tables.receipt_details import Tensors
from crossweave.tables.receipts import Receipt

PACKAGE = Path(__file__).resolve().parents[3] / "lib" / "crossweave"


class Weighing(Stage[Basis]):
    """Weighs five things; what it is asked to do goes into a diary."""

    name = "tensors"

    def __init__(self, facts: dict[str, Any], lost: int = 0) -> None:
        self.facts, self.lost, self.diary = facts, lost, list[str]()

    def basis(self, context: StageContext) -> Basis:
        self.diary.append("basis")
        return Basis({"catalog": 3}, self.facts)

    def run(
        self, context: StageContext, basis: Basis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Tensors]:
        self.diary.append("run")
        assert context.receipts.latest(self.name) is None or basis.fingerprint != self.printed(context)
        record.ledgers = {"things": Ledger(rows_in=5, rows_out=5 - self.lost)}
        record.writes = {"item_index": 7}
        return basis.receipt(context, record, Tensors("of tonight", "warm"))

    def settle(self, context: StageContext, basis: Basis, receipt: Receipt[Any], record: StageRecord) -> None:
        self.diary.append(f"settle {receipt.details.folder}")
        assert context.receipts.latest(self.name) == receipt

    def printed(self, context: StageContext) -> str:
        return context.receipts.required(self.name).fingerprint


@pytest.fixture
def context(make_settings) -> StageContext:
    return plan_context(make_settings(), datetime.date(2026, 1, 2))


def done(stage: Stage[Any], context: StageContext) -> StageRecord:
    record = StageRecord(stage.name)
    perform(stage, context, record)
    return record


def test_a_receipt_says_what_was_read_written_and_counted(context: StageContext) -> None:
    record = done(Weighing({"scales": 1}), context)
    receipt = context.receipts.required("tensors")
    assert (receipt.reads, receipt.writes, receipt.rows) == ({"catalog": 3}, {"item_index": 7}, 5)
    assert (receipt.run_id, receipt.details) == (context.run_id, Tensors("of tonight", "warm"))
    assert (record.reads, record.noop) == ({"catalog": 3}, False)


def test_the_same_facts_are_nothing_to_do_and_others_are_work(context: StageContext) -> None:
    done(Weighing({"scales": 1}), context)
    same, other = Weighing({"scales": 1}), Weighing({"scales": 2})
    assert same.is_current(context) and not other.is_current(context)
    same.diary.clear()
    record = done(same, context)
    assert same.diary == ["basis", "settle of tonight"]
    assert (record.noop, record.total.skipped, record.reads) == (True, 5, {"catalog": 3})
    other.diary.clear()
    assert not done(other, context).noop
    assert other.diary == ["basis", "run", "settle of tonight"]
    assert other.printed(context) == other.basis(context).fingerprint


def test_what_decides_is_told_apart_whatever_it_is(context: StageContext) -> None:
    one, other = Weighing({"a": 1, "b": 2}).basis(context), Weighing({"a": 1, "b": "2"}).basis(context)
    assert one.fingerprint == Weighing({"a": 1, "b": 2}).basis(context).fingerprint != other.fingerprint


def test_a_stage_that_lost_a_row_publishes_nothing_and_settles_nothing(context: StageContext) -> None:
    stage = Weighing({"scales": 1}, lost=1)
    with pytest.raises(ReconciliationError, match=r"tensors\.things: 5 rows came in, but 4 went out"):
        done(stage, context)
    assert context.receipts.latest("tensors") is None
    assert stage.diary == ["basis", "run"]


def test_no_stage_publishes_a_receipt_itself() -> None:
    found = []
    for path in sorted((PACKAGE / "stages").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "publish":
                found.append(path.name)
    assert found == []
