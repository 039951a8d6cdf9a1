"""A judged run is served, unless a rollback took its result back: then not even a gate has a say."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from support import chain_of

from crossweave.errors import PromotionRefusedError
from crossweave.runtime.plan import plan_context
from crossweave.runtime.record import StageRecord
from crossweave.runtime.serving import promote, withdrawn
from crossweave.runtime.stage import StageContext
from crossweave.stages.evaluate.promotion import settle
from crossweave.tables.promoting import roll_back, target_of
from crossweave.tables.receipt_details import Evaluated, Feature
from crossweave.tables.receipts import Receipt
from crossweave.tables.served import Served, load_served


@pytest.fixture
def context(make_settings) -> StageContext:
    settings = make_settings(evaluate__gate={"metric": "ndcg@20"})
    context = plan_context(settings, datetime.date(2026, 1, 2))
    features = {"text": Feature("features/text-a", "a", 3, learned="l" * 64), "image": Feature("features/b", "b", 3)}
    context.receipts.publish(Receipt("embed", "e", "e", {}, {}, 1, features))
    return context


def known(context: StageContext) -> Served:
    served = load_served(context.workspace)
    assert served is not None
    return served


def judged(context: StageContext, run: str, *refused: str, date: str = "") -> StageRecord:
    chain, record = chain_of(run, {}, {}), StageRecord("evaluate")
    chain = replace(chain, score=replace(chain.score, run_id=run + date))
    context.run_id = run + date
    figures = [{"name": "recall@20", "value": 0.1}, {"name": "ndcg@20", "value": 0.2}]
    details = Evaluated(refused=list(refused), headline=figures)
    settle(context, record, chain, Receipt("evaluate", "f", run, {}, {}, 1, details))
    return record


def test_what_is_promoted_is_written_down_with_why_and_what_a_rollback_compares(context: StageContext) -> None:
    assert judged(context, "a").note == "\n  served from now on"
    assert judged(context, "a").note == ""  # it is already
    judged(context, "b")
    promotions = [one.promotion for one in known(context).generations]
    assert [one.why for one in promotions] == ["the first; passed the gate", "passed the gate"]
    assert promotions[1].figure == {"name": "ndcg@20", "value": 0.2}
    assert promotions[1].learned == {"text": "l" * 64}
    with pytest.raises(PromotionRefusedError, match="the run of 2026-01-02 stays served"):
        judged(context, "c", "it is worse")


@pytest.mark.parametrize("refused", [(), ("it is worse",)])
def test_a_result_that_was_taken_back_is_a_warning_until_something_is_new(
    context: StageContext, refused: tuple[str, ...]
) -> None:
    judged(context, "a")
    judged(context, "b")
    roll_back(context.workspace, known(context), target_of(known(context), None), "the-rollback")
    record = judged(context, "b", *refused, date="-later")
    (warning,) = record.warnings
    assert warning.startswith("nothing is new since the-rollback took this result back: the run of 2026-01-02 stays")
    assert known(context).run_id == "a"
    assert judged(context, "a", date="-later").note == "\n  served from now on"  # what is served, of a new date
    assert known(context).run_id == "a-later"
    assert [one.runs for one in known(context).generations] == [["a", "a-later"], ["b"]]
    assert withdrawn(context, chain_of("a", {}, {})) == ""
    record = StageRecord("score")
    promote(context, record, chain_of("b", {}, {}), "nothing is held out", {})
    assert record.warnings and known(context).run_id == "a-later"
    assert judged(context, "c").note == "\n  served from now on"
