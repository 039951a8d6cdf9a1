"""Only what changed: nights between two trainings, each compared with a full pass."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support import Chain, Night

from crossweave.stages.ingest import INGEST
from crossweave.stages.rollback import Rollback
from crossweave.stages.score import SCORE
from crossweave.stages.train import TRAIN
from crossweave.tables.served import load_served

pytestmark = pytest.mark.slow

TWO_STAGES = [INGEST, SCORE]
FIRST, SECOND, THIRD = "2026-01-03", "2026-01-04", "2026-01-05"


def rows_of(chain: Chain) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["user_id"], row["rank"]): row for row in chain.table("recommendations")}


def assert_same_lists(got: Chain, wanted: Chain) -> None:
    """Equal row by row; floats to the rounding of a matrix product of another shape."""
    found, expected = rows_of(got), rows_of(wanted)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        other = found[key]
        for name in ("run_date", "item_id", "rank_before", "explored"):
            assert other[name] == row[name], (key, name)
        assert other["score"] == pytest.approx(row["score"], rel=1e-5, abs=1e-5)
        assert dict(other["reasons"]) == pytest.approx(dict(row["reasons"]), rel=1e-3, abs=1e-4)
        assert [entry["item_id"] for entry in other["because"]] == [entry["item_id"] for entry in row["because"]]


def change_input(root: Path) -> set[str]:
    """One user takes an item more, one tells another country, two are new, one is gone; returns who is to be scored."""
    events = pq.read_table(root / "interactions.parquet")
    users = pq.read_table(root / "users.parquet")
    by_count = events.column("user_id").value_counts().to_pylist()
    names = [
        entry["values"] for entry in sorted(by_count, key=lambda e: (-e["counts"], e["values"])) if entry["values"]
    ]
    busy, gone, moved = names[0], names[1], names[2]
    row = events.filter(pc.equal(events.column("user_id"), busy)).slice(0, 1)
    all_items = {i for i in pq.read_table(root / "items.parquet").column("item_id").to_pylist() if i is not None}
    taken = events.filter(pc.equal(events.column("user_id"), busy)).column("item_id").to_pylist()
    item = pa.array([min(all_items - set(taken))], events.schema.field("item_id").type)
    place = events.schema.get_field_index("item_id")
    more = row.set_column(place, events.schema.field(place), item)
    new = row.set_column(0, events.schema.field(0), pa.array(["newcomer"], pa.string()))
    assert events.schema.field(0).name == "user_id"
    kept = events.filter(pc.not_equal(events.column("user_id"), gone))
    pq.write_table(pa.concat_tables([kept, more, new]), root / "interactions.parquet")
    people = [u for u in users.to_pylist() if u["user_id"] != gone]
    for person in people:
        if person["user_id"] == moved:
            person["country"] = next(u["country"] for u in people if u["country"] not in (None, person["country"]))
    people.append({"user_id": "silent", "age_group": None, "country": people[0]["country"], "joined": None})
    pq.write_table(pa.Table.from_pylist(people, schema=users.schema), root / "users.parquet")
    return {busy, moved, "newcomer", "silent"}


def test_a_night_between_trainings_scores_who_changed_and_equals_a_full_pass(night: Night, tmp_path: Path):
    root = tmp_path / "shop"
    shutil.copytree(night.chain.root, root)
    chain = night.chain.copy(tmp_path / "ws")
    chain.root = root
    more = {"score__incremental": True, "score__explore": {"share": 0.1}, "score__rerank": {"mmr": {"relevance": 0.8}}}
    more["split__method"] = "none"  # what a user takes is seen, whatever a draw would say
    first = chain.run(TWO_STAGES, date=FIRST, **more)
    assert first["exit_code"] == 0, first["error"]
    everybody = first["metrics"]["score.users.rows_in"]
    assert (first["metrics"]["score.users_scored"], first["metrics"]["score.users_carried_over"]) == (everybody, 0)

    due = change_input(root)
    full = chain.copy(tmp_path / "full")
    full.root = root
    second = chain.run(TWO_STAGES, date=SECOND, **more)
    assert second["exit_code"] == 0, second["error"]
    assert second["metrics"]["score.users_scored"] == len(due)
    assert second["metrics"]["score.users_carried_over"] == everybody - 3  # one left, two of those who stayed changed
    assert full.run(TWO_STAGES, date=SECOND, **(more | {"score__incremental": False}))["exit_code"] == 0
    assert_same_lists(chain, full)
    assert sorted((r["user_id"], r["rank"], r["item_id"]) for r in chain.table("lists_before")) == sorted(
        (r["user_id"], r["rank"], r["item_id"]) for r in full.table("lists_before")
    )
    assert {str(row["run_date"]) for row in chain.table("recommendations")} == {SECOND}

    third = chain.run(TWO_STAGES, date=THIRD, **more)
    assert third["metrics"]["score.users_scored"] == 0
    assert {str(row["run_date"]) for row in chain.table("recommendations")} == {THIRD}
    assert {key: row["item_id"] for key, row in rows_of(chain).items()} == {
        key: row["item_id"] for key, row in rows_of(full).items()
    }
    _nights_that_nothing_judges_are_served_and_rolled_back(chain, first["run_id"], [second["run_id"], third["run_id"]])


def _nights_that_nothing_judges_are_served_and_rolled_back(chain: Chain, first: str, then: list[str]) -> None:
    served = load_served(chain.workspace)
    assert [(one.runs, one.promotion.why) for one in served.generations[1:]] == [
        ([first], "nothing is held out to judge it by"),
        (then, "nothing is held out to judge it by"),  # of one result: only the date is new
    ]
    result = chain.run([Rollback()])
    assert result["exit_code"] == 0, result["error"]
    assert load_served(chain.workspace).run_id == first


def test_other_settings_and_another_model_score_everybody(night: Night, tmp_path: Path):
    chain = night.chain.copy(tmp_path / "ws")
    scored = lambda result: result["metrics"]["score.users_scored"]  # noqa: E731
    everybody = scored(chain.run([SCORE], date=FIRST, score__incremental=True))
    assert everybody == night.result["metrics"]["score.users.rows_in"]
    assert scored(chain.run([SCORE], date=SECOND, score__incremental=True)) == 0
    rules = {"block": {"category": ["lamp"]}}
    assert scored(chain.run([SCORE], date=SECOND, score__incremental=True, score__rules=rules)) == everybody
    assert scored(chain.run([SCORE], date=THIRD, score__incremental=True, score__rules=rules)) == 0
    short = {"train__max_epochs": 1, "score__incremental": True, "score__rules": rules}
    again = chain.run([TRAIN, SCORE], date=THIRD, **short)
    assert again["exit_code"] == 0, again["error"]
    assert scored(again) == everybody
