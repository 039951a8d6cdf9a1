"""A night that is worse on purpose: refused with exit 4, and the lists of the night before stay the served ones."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import query
import rollback
import served
from support import Chain, Night, chain_of, stage

from crossweave import pipeline
from crossweave.feeding.manifest import Manifest
from crossweave.runtime.plan import plan_context
from crossweave.stages.collect import COLLECT
from crossweave.stages.evaluate import EVALUATE
from crossweave.stages.evaluate.judging import PREVIOUS as PREVIOUS_RUN
from crossweave.stages.evaluate.promotion import reasons_against
from crossweave.stages.export import EXPORT
from crossweave.stages.score import SCORE
from crossweave.stages.tensors import _forget_old_sets
from crossweave.storage.lease import hold
from crossweave.storage.location import Location
from crossweave.tables.promoting import serve
from crossweave.tables.served import load_served
from crossweave.tables.store import TableStore

pytestmark = pytest.mark.slow

PREVIOUS = {"metric": "ndcg@20", "against": ["previous", "popularity"]}
BAD = {
    "train__learning_rate": 1e-9,
    "train__max_epochs": 1,
    "model__collaborative": {"edlae": None},
    "evaluate__gate": PREVIOUS,
    "date": "2026-01-03",
}


def only_what_nobody_held_out(chain: Chain) -> dict[str, str]:
    """Leave items to recommend that nobody took in the test: 29 users cannot tell a poor model from a good one."""
    taken = {row["item_id"] for row in chain.table("interactions") if row["split"] == "test"}
    left = [row["item_id"] for row in chain.table("catalog") if row["item_id"] not in taken]
    return {"score__rules__available": "item_id in ({})".format(", ".join(f"'{item}'" for item in left))}


def exported(chain: Chain, folder: Path, what: str = "recommendations", form: str = "parquet", **pairs: Any) -> Path:
    wanted = {"export__path": str(folder), "export__what": what, "export__format": form}
    result = chain.run([EXPORT], **pairs | wanted)
    assert result["exit_code"] == 0, result["error"]
    return folder


def lists(folder: Path) -> list[tuple]:
    rows = pq.read_table(folder).to_pydict()
    return sorted(zip(rows["user_id"], rows["rank"], rows["item_id"], strict=True))


def test_a_worse_model_is_refused_and_the_old_one_stays_served(night: Night, tmp_path: Path, capsys) -> None:
    chain = night.chain.copy(tmp_path / "ws")
    old = lists(exported(chain, tmp_path / "old"))
    weights = (exported(chain, tmp_path / "old-model", "model", "safetensors") / "model.safetensors").read_bytes()

    bad = BAD | only_what_nobody_held_out(chain)
    result = chain.run(pipeline.stages, **bad, export__path=str(tmp_path / "old"))
    assert (result["exit_code"], result["error"]["type"]) == (4, "PromotionRefusedError")
    said = result["error"]["message"]
    assert "NDCG@20 is" in said
    assert "the run of 2026-01-02 stays served" in said
    assert result["metrics"]["evaluate.previous.ndcg@20.difference"] < 0
    _the_drift_is_measured(result, night)
    assert any(line.startswith("  warning: drift: stability index of the scores") for line in chain.said)
    page = (chain.workspace / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "This run is not served." in page and "stays served." in page
    assert "stability index of the scores" in page
    assert any(str(row["run_date"]) == "2026-01-03" for row in chain.table("metrics"))
    assert lists(tmp_path / "old") == old  # the pipeline's own export was not reached

    again = chain.run(pipeline.stages, **bad)
    assert (again["exit_code"], again["error"]["message"]) == (4, said)
    assert again["stages"][-1]["rows_out"] == 0  # it was not judged again

    collected = chain.run([COLLECT], gc__keep_days=0, gc__keep_versions=1)
    assert collected["exit_code"] == 0, collected["error"]
    for pairs in (bad, {"date": "2026-01-03"}):  # with and without the gate in the settings
        assert lists(exported(chain, tmp_path / f"lists-{len(pairs)}", **pairs)) == old
    model = exported(chain, tmp_path / "model", "model", "safetensors", **bad)
    assert (model / "model.safetensors").read_bytes() == weights
    users = pq.read_table(exported(chain, tmp_path / "users", "users", **bad))
    assert set(users.column("user_id").to_pylist()) >= {user for user, *_ in old}
    user = old[0][0]
    capsys.readouterr()
    assert query.main([*chain.words(**bad), "--user", user, "--top", "3"]) == 0
    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == [str(item) for owner, _, item in old if owner == user][:3]

    anyway = chain.run([EVALUATE], **bad | {"evaluate__gate": None})
    assert anyway["exit_code"] == 0, anyway["error"]
    assert any("served from now on" in line for line in chain.said)
    new = lists(exported(chain, tmp_path / "new", **bad))
    assert new != old
    assert new == sorted((row["user_id"], row["rank"], int(row["item_id"])) for row in chain.table("recommendations"))
    assert chain.attempt([EVALUATE], **bad) == 0  # what is served already is not refused
    _it_is_rolled_back_and_stays_so(chain, bad, old, new, weights, tmp_path, capsys)


def _it_is_rolled_back_and_stays_so(
    chain: Chain, bad: dict[str, Any], old: list[tuple], new: list[tuple], weights: bytes, folder: Path, capsys
) -> None:
    """What a rollback does to readers and to the nights after it: part of the test above, which has two results."""
    ungated = bad | {"evaluate__gate": None}
    first, second = (one.runs[-1] for one in load_served(chain.workspace).generations)
    with hold(Location.of(chain.workspace), "another-run"):
        assert rollback.main(chain.words()) == 75
    told = rolled_back(chain)
    assert (told["job"], told["stages"][0]["facts"]["served"]) == ("rollback", first)
    assert told["stages"][0]["facts"]["instead_of"] == second
    assert told["stages"][0]["seconds"] < 20  # on a busy machine
    for pairs in (ungated, bad):
        assert lists(exported(chain, folder / "back", **pairs)) == old
    assert exported(chain, folder / "back-model", "model", "safetensors", **ungated)
    assert (folder / "back-model" / "model.safetensors").read_bytes() == weights
    assert rolled_back(chain)["status"] == "noop"

    capsys.readouterr()
    assert served.main(chain.words()) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("→ served now") and f"  {first}  of 2026-01-02" in said[0]
    assert [line.split()[0] for line in said if not line.startswith(" ")].count("✗") == 2  # the refused nights
    assert any("rollback by command" in line for line in said)

    result = chain.run([SCORE, EVALUATE], **bad | {"date": "2026-01-04"})
    assert result["exit_code"] == 0, result["error"]
    assert "took this result back: the run of 2026-01-02 stays served" in stage(result, "evaluate")["warnings"][-1]
    page = (chain.workspace / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "This run is not served." in page and "took this result back" in page
    nothing_new = ungated | {"date": "2026-01-04"}
    result = chain.run([EVALUATE], **nothing_new)  # not by a promotion of what a gate would refuse either
    assert (result["exit_code"], stage(result, "evaluate")["rows_out"]) == (0, 0)
    assert "took this result back" in stage(result, "evaluate")["warnings"][-1]
    assert lists(exported(chain, folder / "later", **nothing_new)) == old
    result = chain.run([SCORE, EVALUATE], **bad | {"date": "2026-01-05", "seed": 5})
    assert result["exit_code"] == 4  # something is new: the gate compares with what is served
    assert "the run of 2026-01-02 stays served" in result["error"]["message"]

    kept = chain.run([COLLECT], gc__keep_days=0, gc__keep_versions=1, gc__keep_served=1)
    assert kept["exit_code"] == 0, kept["error"]
    rolled_back(chain, "--to", second)
    assert lists(exported(chain, folder / "undone", **ungated)) == new
    _what_is_damaged_is_not_rolled_back_to(chain, first, second)


def _what_is_damaged_is_not_rolled_back_to(chain: Chain, first: str, second: str) -> None:
    known = load_served(chain.workspace)
    target = known.generations[0].chain
    model = chain.workspace / "models" / target.model / "model.safetensors"
    table = TableStore(chain.workspace / "tables").required("recommendations", target.score.writes["recommendations"])
    tensors = next((chain.workspace / "tensors" / target.tensor_set / "sequences").glob("part-*"))
    for path in (model, Path(table.places[0].path), tensors):
        aside = path.rename(path.with_name("aside"))
        result = rolled_back(chain, code=3)
        assert str(path) in result["error"]["message"]
        assert f"run {first} cannot be served again" in result["error"]["message"]
        aside.rename(path)
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "model.safetensors" in rolled_back(chain, code=3)["error"]["message"]
    model.write_bytes(whole)
    never = rolled_back(chain, "--to", "20260101T000000-pipeline-000000", code=2)
    assert "was never served" in never["error"]["message"]
    assert load_served(chain.workspace) == known
    rolled_back(chain, "--to", first)


def rolled_back(chain: Chain, *words: str, code: int = 0) -> dict[str, Any]:
    """Run the job; returns its record."""
    assert rollback.main([*chain.words(), *words]) == code
    return json.loads((chain.workspace / "runs" / "latest" / "run_result.json").read_text(encoding="utf-8"))


def _the_drift_is_measured(result: dict[str, Any], night: Night) -> None:
    """The same catalog and vectors, another model: part of the test above, which has a second night to spare."""
    drift = {name: value for name, value in result["metrics"].items() if name.startswith("evaluate.drift.")}
    assert "evaluate.drift.scores" not in night.result["metrics"]  # on the first night there is no run before
    assert {drift.pop(f"evaluate.drift.items_{what}") for what in ("added", "removed", "changed")} == {0}
    assert drift.pop("evaluate.drift.scores") > 0.25
    assert 0 < drift.pop("evaluate.drift.item_vectors") < 1
    assert sorted(drift) == [
        f"evaluate.drift.vectors_of_{name}" for name in ("image", "sound", "style", "tags", "text")
    ]
    assert set(drift.values()) == {0}
    assert any("above evaluate.drift.scores 0.25" in what for what in stage(result, "evaluate")["warnings"])


def test_lists_that_cannot_be_compared_with_are_refused_by_a_gate_against_them(make_settings) -> None:
    gone = {PREVIOUS_RUN: "its lists cannot be read any more"}
    for against, refused in ((["previous"], 1), (["popularity"], 0)):
        settings = make_settings(evaluate__gate={"metric": "ndcg@20", "against": against})
        context = plan_context(settings, datetime.date(2026, 1, 2))
        assert len(reasons_against(context, [], gone)) == refused


def test_the_served_tensors_are_kept_beside_the_last_two(tmp_path: Path) -> None:
    sets = tmp_path / "tensors"
    for age, name in enumerate("edcba"):
        manifest = Manifest(sets / name, name, {}, 1, 1, (), ())
        manifest.save()
        os.utime(sets / name / "manifest.json", (age, age))
    serve(tmp_path, chain_of("r", {}, {}, "b"), "2026-01-02", "r")
    _forget_old_sets(Location.of(tmp_path), Location.of(sets / "d"), 0)
    assert sorted(path.name for path in sets.iterdir()) == ["a", "b", "d"]
    serve(tmp_path, chain_of("q", {}, {}, "d"), "2026-01-03", "q")
    _forget_old_sets(Location.of(tmp_path), Location.of(sets / "d"), 1)  # one to roll back to
    assert sorted(path.name for path in sets.iterdir()) == ["a", "b", "d"]
    _forget_old_sets(Location.of(tmp_path), Location.of(sets / "d"), 0)
    assert sorted(path.name for path in sets.iterdir()) == ["a", "d"]


def test_the_first_run_is_served_unless_a_baseline_is_better(night: Night, tmp_path: Path) -> None:
    chain = night.chain.copy(tmp_path / "ws")
    for name in ("served", "evaluate"):
        (chain.workspace / "receipts" / f"{name}.json").unlink()
    good = {"evaluate__gate": {"metric": "recall@20", "tolerance": 0.5, "against": ["previous", "popularity"]}}
    assert chain.attempt([EXPORT], export__path=str(tmp_path / "a"), **good) == 2
    assert any("no run has passed evaluate.gate yet" in line for line in chain.said)
    result = chain.run([EVALUATE], **good)
    assert result["exit_code"] == 0, result["error"]
    exported(chain, tmp_path / "a", **good)

    (chain.workspace / "receipts" / "served.json").unlink()
    gate = {"evaluate__gate": {"metric": "ndcg@20", "against": ["popularity"]}}
    bad = gate | only_what_nobody_held_out(chain)
    result = chain.run([SCORE, EVALUATE], **bad)
    assert result["exit_code"] == 4
    assert "nothing is served" in result["error"]["message"]
    result = chain.run([EXPORT], export__path=str(tmp_path / "b"))
    assert result["exit_code"] == 2
    assert "evaluate.gate refused the last run" in result["error"]["message"]
    assert not (tmp_path / "b").exists()


def test_a_gate_that_could_not_be_checked_is_refused_before_anything_runs(night: Night) -> None:
    for gate, words in (
        ({"metric": "ndcg@21"}, "lists end at score.top_k=20"),
        ({"metric": "ndcg@20", "against": ["ease"]}, "which evaluate.baselines does not have"),
        ({"metric": "auc@20"}, "evaluate.gate"),
    ):
        assert night.chain.attempt([EVALUATE], evaluate__gate=gate) == 2
        assert words in night.chain.said[0], json.dumps(gate)
    chosen = {"evaluate__baselines": ["ease"], "evaluate__ease_items": 5}
    gate = {"metric": "ndcg@20", "against": ["ease"]}
    assert night.chain.attempt([EVALUATE], evaluate__gate=gate, **chosen) == 2
    assert any("cannot compare with ease: the catalog has" in line for line in night.chain.said)
