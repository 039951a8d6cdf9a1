"""Which run leaves the workspace: the last scored, the last promoted, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossweave.errors import SettingsError
from crossweave.tables.promoting import serve
from crossweave.tables.receipt_details import Evaluated, Ingested, Scored, Tensors, Trained
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.served import Chain, load_served, served_chain


def night(workspace: Path, run: str) -> Chain:
    folder = f"of-{run}"
    details = {
        "ingest": Ingested(),
        "tensors": Tensors(folder, "warm"),
        "train": Trained(folder),
        "score": Scored(protocol="warm"),
    }
    for stage, own in details.items():
        Receipts(workspace).publish(Receipt(stage, f"{stage}-{run}", run, {"catalog": 1}, {"t": 2}, 3, own))
    return Chain.latest(workspace)


def judge(workspace: Path, run: str, *refused: str) -> None:
    details = Evaluated(judged=run, refused=list(refused))
    Receipts(workspace).publish(Receipt("evaluate", f"e-{run}", run, {}, {}, 1, details))


def test_without_a_gate_it_is_the_last_scored_run_evaluated_or_not(tmp_path: Path) -> None:
    first = night(tmp_path, "one")
    assert served_chain(tmp_path, gated=False) == first
    serve(tmp_path, first, "2026-01-02", "one")
    second = night(tmp_path, "two")
    assert served_chain(tmp_path, gated=False) == second


def test_behind_a_gate_a_run_waits_until_it_has_passed(tmp_path: Path) -> None:
    first = night(tmp_path, "one")
    with pytest.raises(SettingsError, match=r"no run has passed evaluate\.gate yet"):
        served_chain(tmp_path, gated=True)
    serve(tmp_path, first, "2026-01-02", "one")
    second = night(tmp_path, "two")
    assert served_chain(tmp_path, gated=True) == first
    serve(tmp_path, second, "2026-01-03", "two")
    assert served_chain(tmp_path, gated=True) == second


def test_a_refused_run_is_not_served_whatever_the_gate_is_later(tmp_path: Path) -> None:
    first = night(tmp_path, "one")
    judge(tmp_path, "one", "it is worse")
    for gated in (False, True):
        with pytest.raises(SettingsError, match=r"refused the last run.*\(it is worse\)"):
            served_chain(tmp_path, gated=gated)
    serve(tmp_path, first, "2026-01-02", "one")  # promoted anyway
    assert served_chain(tmp_path, gated=False) == first
    night(tmp_path, "two")
    judge(tmp_path, "two", "it is worse")
    assert served_chain(tmp_path, gated=False) == first
    third = night(tmp_path, "three")  # nobody judged it
    assert served_chain(tmp_path, gated=False) == third
    assert served_chain(tmp_path, gated=True) == first


def test_what_is_served_stays_whole_while_the_stages_move_on_and_knows_the_one_before(tmp_path: Path) -> None:
    first = night(tmp_path, "one")
    serve(tmp_path, first, "2026-01-02", "one")
    second = night(tmp_path, "two")
    serve(tmp_path, second, "2026-01-03", "two")
    serve(tmp_path, second, "2026-01-03", "again")  # no news: the one before it stays the one before it
    third = night(tmp_path, "three")
    served = load_served(tmp_path)
    assert served is not None
    assert (served.chain, served.before, served.date, served.run_id) == (second, first, "2026-01-03", "two")
    assert (served.chain.model, served.chain.tensor_set, served.chain.protocol) == ("of-two", "of-two", "warm")
    assert Chain.latest(tmp_path) == third
    # The pointer is no stage's receipt.
    assert {r.stage for r in Receipts(tmp_path).all()} == {"ingest", "tensors", "train", "score"}
