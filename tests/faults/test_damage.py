"""Damaged, exchanged and missing state of a workspace: refused by name with exit 3, never read as something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support import DATE, Chain, Night

from crossweave.demo import generate_shop
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import SETS, required_manifest
from crossweave.stages.embed import EMBED
from crossweave.stages.evaluate import EVALUATE
from crossweave.stages.export import EXPORT
from crossweave.stages.ingest import INGEST
from crossweave.stages.score import SCORE
from crossweave.stages.tensors import TENSORS
from crossweave.stages.train import TRAIN
from crossweave.tables.receipts import Receipts

pytestmark = pytest.mark.slow

STAGES = {stage.name: stage for stage in (INGEST, TENSORS, TRAIN, SCORE, EVALUATE, EXPORT)}
TOMORROW = "2026-01-03"


def attempt(chain: Chain, stage: str, **pairs: object) -> int:
    return chain.attempt([STAGES[stage]], date=TOMORROW, **pairs)


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


# What is flipped, the stage that opens it next and what it is asked for, and the stage that makes it anew.
OPENERS = [
    ("models/*/model.safetensors", "score", {}, "train"),
    ("models/*/model.json", "train", {}, "train"),
    ("models/*/model.safetensors", "export", {"export__what": "model", "export__format": "safetensors"}, "train"),
    ("models/*/collaborative/edlae/*.npy", "score", {}, "train"),
    ("scored/*/target.npy", "export", {"export__what": "items"}, "score"),
    ("scored/*/item_ids.arrow", "export", {"export__what": "items"}, "score"),
    ("scored/*/scored.json", "evaluate", {}, "score"),
    ("scored/*/target.npy", "evaluate", {}, "score"),
    ("tensors/*/manifest.json", "train", {}, "tensors"),
    ("tensors/*/items/part-*.parquet", "score", {"seed": 5}, "tensors"),
    ("tensors/*/sequences/part-*.parquet", "train", {"train__max_epochs": 1}, "tensors"),
    ("receipts/train.json", "score", {}, "train"),
    ("receipts/ingest.json", "ingest", {}, "ingest"),
]


@pytest.mark.parametrize(("what", "stage", "pairs", "maker"), OPENERS, ids=[f"{o[0]} by {o[1]}" for o in OPENERS])
def test_one_flipped_bit_is_refused_by_the_stage_that_opens_it(
    night: Night, tmp_path: Path, what: str, stage: str, pairs: dict[str, object], maker: str, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))  # nothing of it lies on this host yet
    (tmp_path / "tmp").mkdir()
    chain = night.chain.copy(tmp_path / "ws")
    (path, *_) = sorted(chain.workspace.glob(what))
    flip(path)
    assert attempt(chain, stage, export__path=str(tmp_path / "out"), **pairs) == 3, chain.said
    said = "\n".join(chain.said)
    assert path.name in said
    assert f"./submit.sh {maker}" in said
    assert not (tmp_path / "out").exists()


def test_what_the_message_says_mends_the_damage(night: Night, tmp_path: Path):
    chain = night.chain.copy(tmp_path / "ws")
    (folder,) = (path for path in (chain.workspace / "scored").iterdir() if path.is_dir())
    flip(folder / "target.npy")
    assert attempt(chain, "evaluate") == 3
    assert f"remove the folder {folder}" in "\n".join(chain.said)
    shutil.rmtree(folder)
    assert attempt(chain, "score") == 0
    assert attempt(chain, "evaluate") == 0


@pytest.mark.parametrize("table", ["catalog", "history", "users", "features/text-*"])
def test_a_table_that_a_receipt_names_and_that_is_gone_does_not_read_as_empty(night: Night, tmp_path: Path, table: str):
    chain = night.chain.copy(tmp_path / "ws")
    (folder,) = (chain.workspace / "tables").glob(table)
    shutil.rmtree(folder)
    assert attempt(chain, "tensors", tensors__history=7) == 3, chain.said
    assert folder.name in "\n".join(chain.said)


# Back to earlier settings ------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file below a folder with its inode and time of change."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {p.relative_to(folder).as_posix(): (p.stat().st_ino, p.stat().st_mtime_ns) for p in found}


def test_going_back_to_earlier_settings_finds_what_was_made_and_writes_nothing_into_it(night: Night, tmp_path: Path):
    chain = night.chain.copy(tmp_path / "ws")
    made = {room: files(chain.workspace / room) for room in ("models", "tensors", "scored")}
    lists = chain.table("recommendations")
    other = chain.run(tensors__history=9, train__max_epochs=1)
    assert [s["name"] for s in other["stages"] if s["rows_out"]] == ["tensors", "train", "score", "evaluate"]
    back = chain.run()
    assert [s["name"] for s in back["stages"] if s["rows_out"]] == ["score", "evaluate"]
    for room, before in made.items():
        now = files(chain.workspace / room)
        assert {name: now.get(name) for name in before} == before, room
    key = lambda row: (row["user_id"], row["rank"])  # noqa: E731
    assert sorted(chain.table("recommendations"), key=key) == sorted(lists, key=key)
    assert chain.run()["status"] == "noop"


def test_two_shops_with_the_same_settings_and_table_versions_share_nothing(night: Night, tmp_path: Path):
    generate_shop(tmp_path / "shop", items=60, users=40, interactions=800, seed=18)
    other = Chain(tmp_path / "ws", tmp_path / "shop")
    assert other.run([INGEST, EMBED, TENSORS], date=DATE)["exit_code"] == 0
    ours, theirs = (Receipts(chain.workspace).required("tensors") for chain in (night.chain, other))
    assert ours.writes == theirs.writes  # versions alone do not tell them apart
    assert ours.fingerprint != theirs.fingerprint
    folders = [required_manifest(c.workspace / SETS / r.details.folder, r.fingerprint) for c, r in
               ((night.chain, ours), (other, theirs))]  # fmt: skip
    first, second = (open_items(manifest) for manifest in folders)
    assert not np.array_equal(first.vectors["text"], second.vectors["text"])
