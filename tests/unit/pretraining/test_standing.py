"""What becomes of what an encoder has learned, night after night: kept, learned anew, or given up."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from crossweave.config.pretraining import PretrainSettings
from crossweave.stages.pretrain.standing import added, asked_for, fair, judged, why_due
from crossweave.tables.receipt_details import Attempt, Evaluated, Pretrained

DAY = datetime.date(2026, 1, 10)
SETTINGS = PretrainSettings(
    tasks={"words": [{"objective": "masked"}]},
    every_days=7,
    on_drift=True,
    held_out=0.1,
    row_group_rows=10,
    tokenizer_rows=10,
    most_contents=10,
    rank_megabytes=10,
)


def attempt(learned: str, date: str = "2026-01-05", run: str = "20260105T000000-pipeline-aaaaaa") -> Attempt:
    return Attempt("asked", date, run, learned)


def drifted(run: str) -> Evaluated:
    return Evaluated(judged=run, drifted=["drift: vectors"])


def test_what_learned_is_used_from_that_night_on_and_what_did_not_leaves_the_old_in_use() -> None:
    first = added(Pretrained(), "words", attempt("one"))
    assert first.used == {"words": "one"}
    second = added(first, "words", attempt("", "2026-01-09"))
    assert second.used == {"words": "one"}
    assert second.last["words"].before == "one"


@pytest.mark.parametrize("before", ["", "one"])
def test_what_the_gate_refuses_gives_way_to_what_was_before_for_good(before: str) -> None:
    known = added(Pretrained(used={"words": before} if before else {}), "words", attempt("two"))
    refused = judged(known, True, {"two"})
    assert refused.used == ({"words": before} if before else {})
    assert judged(refused, False, {before}) == refused  # the night after, with the old vectors
    assert judged(refused, False, {"two"}) == refused
    assert why_due("words", refused, SETTINGS, None, datetime.date(2026, 1, 7)) == ""  # nor is it tried every night


def test_lists_of_other_vectors_say_nothing_of_it_and_what_passed_cannot_be_refused_later() -> None:
    known = added(Pretrained(), "words", attempt("one"))
    assert judged(known, True, {"other"}) == known
    passed = judged(known, False, {"one", "other"})
    assert passed.last["words"].standing == "passed"
    assert judged(passed, True, {"one"}).used == {"words": "one"}


def test_it_learns_again_by_age_by_drift_and_by_other_settings_only() -> None:
    known = added(Pretrained(), "words", attempt("one"))
    assert "not learned" in why_due("words", Pretrained(), SETTINGS, None, DAY)
    assert why_due("words", known, SETTINGS, None, datetime.date(2026, 1, 11)) == ""
    assert "7 days ago" in why_due("words", known, SETTINGS, None, datetime.date(2026, 1, 12))
    later = drifted("20260106T000000-pipeline-eeeeee")
    assert "drift" in why_due("words", known, SETTINGS, later, DAY)
    off = SETTINGS.model_copy(update={"on_drift": False})
    assert why_due("words", known, off, later, DAY) == ""
    # The night of the learning itself compares new vectors with old ones.
    assert why_due("words", known, SETTINGS, drifted("20260105T000000-pipeline-aaaaaa"), DAY) == ""
    moving = Pretrained({"words": replace(attempt("one"), history="h@1")}, {"words": "one"})
    assert why_due("words", moving, SETTINGS, None, DAY, "h@1") == ""
    assert "may now hold out" in why_due("words", moving, SETTINGS, None, DAY, "h@2")
    assert fair(moving, "h@1") == moving
    again = added(fair(moving, "h@2"), "words", attempt(""))  # nothing better: not the old one, which may know too much
    assert (again.used, again.last["words"].before) == ({}, "")
    assert asked_for(known, {"words": "other"}) == Pretrained()
    assert asked_for(known, {"words": "asked"}) == known


def test_all_that_may_be_used_again_is_kept_from_collection() -> None:
    known = added(added(Pretrained(), "words", attempt("one")), "words", attempt("two"))
    assert known.artifacts == {"one", "two"}
    assert known.of("words") == ["two", "one"]
