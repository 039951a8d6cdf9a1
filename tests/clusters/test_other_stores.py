"""The whole chain with input and workspace in an object store, by the commands of docs/stores.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import query
import rollback
from documented import Reader, commands, settings_of_ones_own
from stores import S3Server
from support import DATE, TINY, Chain, Night, lists_of, rows_of, setting

from crossweave.storage.lease import hold
from crossweave.storage.location import Location
from crossweave.tables.promoting import serve
from crossweave.tables.receipts import Receipts
from crossweave.tables.served import load_served

SMALL = {"demo.items": 60, "demo.users": 40, "demo.interactions": 800}


@pytest.mark.slow
def test_one_command_brings_the_shop_to_a_bucket_and_gives_the_lists_of_a_local_run(
    night: Night, s3: Location, s3_server: S3Server, tmp_path: Path
) -> None:
    _, _, command, own, query = commands("stores.md", "## Five commands")
    workspace = s3 / "ws"
    mine = settings_of_ones_own(tmp_path / "mine.yaml", SMALL)
    user = lists_of(night.chain.workspace)[0][0]
    meant = {
        "s3://shop/ws": str(workspace),
        "s3://shop/mine": str(workspace),
        "s3://shop/in": str(workspace / "demo"),
        "mine.yaml": mine,
        "--user ID": f"--user {user}",
    }
    reader = Reader(tmp_path, meant, s3_server.environment)
    record = reader.start(command, [*setting(TINY | SMALL), "--date", DATE]).ends(0)
    assert (record["status"], record["metrics"]["embed.text.encoded"] > 0) == ("ok", True)
    assert lists_of(workspace) == lists_of(night.chain.workspace)
    assert (workspace / "runs" / record["run_id"] / "report.html").is_file()
    assert reader.start(own, ["--date", DATE]).ends(0)["status"] == "noop"
    shown = reader.start(query)
    shown.ends(0)
    assert any(line.split()[:1] == ["1"] for line in shown.said), shown.said
    assert not list(reader.folder.iterdir())  # a URL taken for a path of this machine would lie here


@pytest.mark.slow
def test_a_rollback_in_a_bucket_waits_for_the_lease_and_serves_what_is_whole(night: Night, s3: Location) -> None:
    workspace = s3 / "ws"
    workspace.upload_folder(night.chain.workspace)
    first = load_served(workspace)
    details = replace(first.chain.score.details, origin="of a bad day")
    score = replace(first.chain.score, run_id="20260103T000000-pipeline-bad", details=details)
    Receipts(workspace).publish(score)
    serve(workspace, replace(first.chain, score=score), "2026-01-03", score.run_id)
    words = Chain(workspace, night.chain.root).words()
    with hold(workspace, "a night"):
        assert rollback.main(words) == 75
    assert rollback.main(words) == 0
    assert load_served(workspace).chain == first.chain
    assert "Served now: the run of <b>2026-01-02</b>" in (workspace / "runs" / "index.html").text()
    assert query.main([*words, "--user", lists_of(workspace)[0][0]]) == 0
    ((model, _),) = [(p, e) for p, e in (workspace / "models").walk() if p.name == "model.safetensors"]
    model.remove()
    assert rollback.main([*words, "--to", score.run_id]) == 3
    assert load_served(workspace).chain == first.chain


@pytest.mark.slow
def test_an_encoder_learns_in_a_bucket_and_every_process_reads_it_from_a_copy_of_its_host(
    s3: Location, s3_server: S3Server, tmp_path: Path
) -> None:
    (command,) = commands("pretraining.md", "## A model of the catalog's own")
    workspace, words = s3 / "own", [*setting(TINY | SMALL), "--date", DATE]
    reader = Reader(tmp_path, {"ws-own-words": str(workspace)}, s3_server.environment)
    figures = reader.start(command, words).ends(0)["metrics"]
    assert figures["pretrain.own_words.1.best_loss"] < figures["pretrain.own_words.1.first_loss"]
    assert len(list((workspace / "learned").children())) == 2  # of the two steps
    features = [place.name for place in (workspace / "tables" / "features").children()]
    (table,) = [name for name in features if name.startswith("text-")]
    assert len(rows_of(workspace, f"features/{table}")) == figures["embed.text.encoded"] > 0
    assert reader.start(command, words).ends(0)["status"] == "noop"
    assert not list(reader.folder.iterdir())
