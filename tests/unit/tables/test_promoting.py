"""How what is served changes: nights are promoted, a command rolls back, and nothing is forgotten too early."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support import chain_of

from crossweave.errors import SettingsError
from crossweave.storage.location import Location
from crossweave.storage.records import write_record
from crossweave.tables.promoting import (
    GENERATIONS,
    ROLLBACK,
    RUNS,
    TURNS,
    roll_back,
    serve,
    target_of,
    with_unjudged,
)
from crossweave.tables.receipts import Receipts
from crossweave.tables.served import SCHEMA, Chain, Promotion, Served, load_served, served_chain


def night(workspace: Location, run: str, origin: str = "") -> Chain:
    """A night that is scored, the last one of the workspace, and promoted."""
    chain = chain_of(run, {}, {"recommendations": 1}, f"of-{run}")
    details = replace(chain.score.details, origin=origin or run)
    chain = replace(chain, score=replace(chain.score, details=details))
    for receipt in chain:
        Receipts(workspace).publish(receipt)
    serve(workspace, chain, "2026-01-02", run, Promotion("it is good", {"name": "ndcg@20", "value": 0.5}))
    return chain


def known(workspace: Location) -> Served:
    served = load_served(workspace)
    assert served is not None
    return served


def back(workspace: Location, to: str | None = None) -> str:
    """Roll back; returns what is served from then on."""
    served = known(workspace)
    target = target_of(served, to)
    if target.chain.score != served.chain.score:
        roll_back(workspace, served, target, f"rollback-to-{target.runs[-1]}")
    return known(workspace).run_id


def test_a_rollback_serves_the_run_before_and_a_rollback_of_it_undoes_it(root: Location) -> None:
    a, b = night(root, "a"), night(root, "b")
    assert back(root) == "a"
    assert [served_chain(root, gated=gated) for gated in (False, True)] == [a, a]
    assert back(root) == "a"  # the same command again finds nothing to do
    assert back(root, "b") == "b"
    assert served_chain(root, gated=False) == b
    assert known(root).before == a
    said = [(turn.run_id, turn.by, turn.why) for turn in known(root).turns]
    assert said == [
        ("a", "a", "it is good"),
        ("b", "b", "it is good"),
        ("a", "rollback-to-a", ROLLBACK),
        ("b", "rollback-to-b", ROLLBACK),
    ]
    assert all(turn.when.endswith("+00:00") for turn in known(root).turns)


def test_what_was_rolled_back_does_not_come_back_but_with_something_new(tmp_path: Path) -> None:
    a, b = night(Location.of(tmp_path), "a"), night(Location.of(tmp_path), "b")
    back(Location.of(tmp_path))
    rescored = replace(b.score, run_id="later", fingerprint="of another date")
    Receipts(tmp_path).publish(rescored)  # a night on which nothing is new, of another date
    for gated in (False, True):
        assert served_chain(tmp_path, gated=gated) == a
    new = replace(rescored, details=replace(rescored.details, origin="new data"))
    Receipts(tmp_path).publish(new)
    assert served_chain(tmp_path, gated=False).score == new


def test_the_run_before_is_the_one_that_was_served_not_one_that_had_been_taken_back(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    for run in "ab":
        night(place, run)
    back(place)
    night(place, "c")
    assert back(place) == "a"
    assert back(place, "b") == "b"
    assert back(place) == "b"  # c is taken back already
    assert known(place).is_withdrawn(chain_of("c", {}, {}))
    assert not known(place).is_withdrawn(chain_of("a", {}, {}))


def test_nights_on_which_nothing_was_new_are_one_result_to_go_back_from(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    night(place, "a")
    for run in ("b1", "b2", "b3"):
        night(place, run, origin="b")
    assert [one.runs for one in known(place).generations] == [["a"], ["b1", "b2", "b3"]]
    assert back(place) == "a"
    assert back(place, "b1") == "b3"  # of which only the date differs
    night(place, "a2", origin="a")  # a result of before, made again: the newest
    assert [one.runs for one in known(place).generations] == [["b1", "b2", "b3"], ["a", "a2"]]
    assert back(place) == "b3"


def test_a_run_that_was_never_served_is_refused_and_so_is_going_back_from_the_first(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    night(place, "a")
    with pytest.raises(SettingsError, match="run a is the first that was served"):
        back(place)
    night(place, "b")
    with pytest.raises(SettingsError, match="run nobody was never served") as refused:
        back(place, "nobody")
    assert refused.value.hint.endswith(": a")
    assert back(place, "b") == "b"


def test_lists_that_nobody_judged_can_be_rolled_back_from_and_to(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    night(place, "a")
    unjudged = chain_of("b", {}, {}, "of-b")
    served = with_unjudged(known(place), unjudged, "2026-01-03")
    target = target_of(served, None)
    assert target.runs == ["a"]
    roll_back(place, served, target, "r")
    assert known(place).is_withdrawn(unjudged)
    assert back(place, "b") == "b"
    assert with_unjudged(known(place), unjudged, "2026-01-03") == known(place)


def test_what_is_known_does_not_grow_without_end_and_what_is_served_is_kept(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    night(place, "first")
    night(place, "second")
    back(place)
    served = known(place)
    many = [replace(served.generations[1], runs=[f"n{n}"], before="first") for n in range(GENERATIONS + 5)]
    turns = served.turns * TURNS
    roll_back(place, replace(served, generations=[served.generations[0], *many], turns=turns), many[-1], "r")
    served = known(place)
    assert (len(served.generations), len(served.turns)) == (GENERATIONS, TURNS)
    assert served.run_id == f"n{GENERATIONS + 4}"
    with pytest.raises(SettingsError, match="run first was served too long ago"):
        target_of(served, "first")
    assert [one.runs[-1] for one in served.kept(2)] == ["n34", "n32", "n33"]
    same = replace(served.generations[served.now], runs=[f"again{number}" for number in range(RUNS)])
    write_record(place / "receipts" / "served.json", SCHEMA, asdict(Served("", "again99", same.chain, None, [same])))
    night(place, "newest", origin=same.chain.origin)
    assert (known(place).generations[0].runs[0], known(place).generations[0].runs[-1]) == ("again1", "newest")


def test_the_list_of_input_files_is_not_kept_with_every_result(tmp_path: Path) -> None:
    chain = chain_of("a", {}, {})
    files = {f"part-{n}.parquet": "stamp" for n in range(1000)}
    ingest = replace(chain.ingest, details=replace(chain.ingest.details, files=files, id_types={"item": "string"}))
    serve(tmp_path, replace(chain, ingest=ingest), "2026-01-02", "a")
    assert "part-" not in (tmp_path / "receipts" / "served.json").read_text(encoding="utf-8")
    assert known(Location.of(tmp_path)).chain.ingest.details.id_types == {"item": "string"}


def test_a_workspace_of_before_there_were_rollbacks_can_be_rolled_back(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    night(place, "20260101T000000-pipeline-a")
    night(place, "b")
    path = tmp_path / "receipts" / "served.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    old = {name: whole[name] for name in ("date", "run_id", "chain", "before")}
    write_record(path, whole["schema"], old)
    assert back(place) == "20260101T000000-pipeline-a"
    assert known(place).date == "2026-01-01"
    assert back(place, "b") == "b"
