"""Garbage collection removes what nobody can read any more, and never what somebody can."""

import datetime
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import Chain, chain_of

from crossweave.artifacts.learned import LEARNED
from crossweave.runtime.job import run_job
from crossweave.stages.collect import COLLECT
from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST
from crossweave.tables import garbage, promoting, served
from crossweave.tables.receipt_details import Scored, Trained
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.store import TableStore

pytestmark = pytest.mark.slow

TWO_STAGES = [INGEST, EMBED]
CONF = """
encoders: {words: {type: hashing, dim: 16}}
modalities: {text: {kind: text, columns: [title], encoder: words}}
"""
NOW = datetime.datetime.now(datetime.UTC)


class Shop:
    """A workspace with a few nights behind it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "in"
        self.root.mkdir(exist_ok=True)
        self.conf = folder / "own.yaml"
        self.conf.write_text(CONF, encoding="utf-8")
        self.chain = Chain(folder / "ws", self.root)
        self.store = TableStore(self.chain.workspace / "tables")
        pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"]}), self.root / "interactions.parquet")

    def night(self, title: str, **pairs) -> None:
        pq.write_table(pa.table({"item_id": ["a"], "title": [title]}), self.root / "items.parquet")
        assert self.chain.run(TWO_STAGES, conf=[self.conf], **pairs)["exit_code"] == 0

    def collect(self, **pairs) -> dict:
        return self.chain.run([COLLECT], conf=[self.conf], **pairs)["metrics"]

    def age(self, days: float) -> None:
        """Let everything be written so many days earlier."""
        then = (NOW - datetime.timedelta(days=days)).timestamp()
        for path in self.chain.workspace.rglob("*"):
            os.utime(path, (then, then))
        for log in self.chain.workspace.glob("tables/**/_delta_log/*.json"):
            lines = log.read_text(encoding="utf-8")
            for word in ('"timestamp":', '"inCommitTimestamp":'):
                before, found, after = lines.partition(word)
                if found:
                    digits = after[: len(after) - len(after.lstrip("0123456789"))]
                    lines = before + found + str(int(then * 1000)) + after[len(digits) :]
            log.write_text(lines, encoding="utf-8")
            os.utime(log, (then, then))

    def files(self) -> set[str]:
        tables = self.chain.workspace / "tables"
        return {p.relative_to(tables).as_posix() for p in tables.rglob("*.parquet")}

    def readable(self, name: str, version: int) -> bool:
        try:
            self.store.required(name, version)
        except Exception:
            return False
        return True


@pytest.fixture(scope="module")
def four_nights(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Path:
    folder = tmp_path_factory.mktemp("four")
    shop = Shop(folder)
    for number in range(4):
        shop.night(f"title {number}")
    return folder


@pytest.fixture
def nights(tmp_path: Path, four_nights: Path) -> Shop:
    """A copy of the four nights, so that every test may spoil its own."""
    shutil.copytree(four_nights, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Shop(tmp_path)


def test_a_young_workspace_keeps_everything(nights: Shop):
    before = nights.files()
    assert nights.collect()["gc.files"] == 0
    assert nights.files() == before


def test_old_versions_go_and_what_is_in_use_or_among_the_newest_stays_readable(nights: Shop):
    nights.age(days=30)
    before = nights.chain.table("catalog"), nights.chain.features()
    said = nights.collect(gc__keep_versions=2, gc__dry_run=True)
    assert said["gc.files"] > 0
    assert [nights.readable("catalog", v) for v in range(4)] == [True] * 4
    assert nights.collect(gc__keep_versions=2)["gc.files"] == said["gc.files"]
    assert [nights.readable("catalog", v) for v in range(4)] == [False, False, True, True]
    assert (nights.chain.table("catalog"), nights.chain.features()) == before
    assert nights.collect(gc__keep_versions=2)["gc.files"] == 0
    nights.night("title 1")  # seen in an earlier night: its vector is still there
    assert nights.chain.run(TWO_STAGES, conf=[nights.conf])["metrics"]["embed.text.encoded"] == 0


def test_a_version_that_was_the_newest_until_yesterday_stays(nights: Shop):
    nights.age(days=30)
    nights.night("title 4")  # replaces version 3 now
    nights.collect(gc__keep_versions=1)
    assert [nights.readable("catalog", v) for v in range(5)] == [False, False, False, True, True]


def test_a_version_that_a_receipt_names_stays_though_newer_ones_were_committed_by_a_killed_run(nights: Shop):
    head = nights.store.required("catalog")
    for base in (3, 4, 5):  # commits without a receipt
        copy = nights.store.fresh_folder("catalog").local
        copy.mkdir(parents=True)
        files = [Path(shutil.copy(path, copy)) for path in head.places]
        nights.store.commit("catalog", files, "replace", base=base)
    shutil.rmtree(nights.chain.workspace / "runs")
    nights.age(days=30)
    nights.collect(gc__keep_versions=1)
    assert [nights.readable("catalog", v) for v in range(7)] == [False, False, False, True, False, False, True]


def test_files_of_an_attempt_that_never_committed_go_once_they_are_old(nights: Shop):
    folder = nights.store.fresh_folder("catalog").local
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(b"half a file")
    assert nights.collect()["gc.files"] == 0
    nights.age(days=30)
    nights.collect(gc__keep_versions=100)
    assert not folder.exists()
    assert [nights.readable("catalog", v) for v in range(4)] == [True] * 4


def test_the_feature_table_of_an_encoder_no_longer_used_goes_when_no_recent_run_read_it(nights: Shop):
    nights.age(days=30)
    nights.night("title 3", encoders__words__dim=32)
    tables = sorted(p.name for p in (nights.chain.workspace / "tables" / "features").iterdir())
    assert len(tables) == 2
    assert nights.collect(gc__keep_days=31)["gc.feature_tables"] == 0
    assert nights.collect(gc__keep_days=7)["gc.feature_tables"] == 1
    (left,) = nights.chain.workspace.glob("tables/features/*")
    assert nights.chain.run(TWO_STAGES, conf=[nights.conf], encoders__words__dim=32)["status"] == "noop"
    assert left.name in tables


def test_a_model_that_is_not_served_and_old_goes(nights: Shop):
    models, scored = nights.chain.workspace / "models", nights.chain.workspace / "scored"
    for name in ("served", "old", "young"):
        (models / name / "checkpoints").mkdir(parents=True)
        (models / name / "checkpoints" / "epoch-00001.safetensors").write_bytes(b"x")
        (scored / name).mkdir(parents=True)
        (scored / name / "target.npy").write_bytes(b"x")
    Receipts(nights.chain.workspace).publish(Receipt("train", "f", "r", {}, {}, 1, Trained("served")))
    Receipts(nights.chain.workspace).publish(Receipt("score", "f", "r", {}, {}, 1, Scored(scored="served")))
    nights.age(days=30)
    os.utime(models / "young" / "checkpoints" / "epoch-00001.safetensors")
    os.utime(scored / "young" / "target.npy")
    collected = nights.collect()
    assert (collected["gc.models"], collected["gc.scored"]) == (1, 1)
    for folder in (models, scored):
        assert sorted(p.name for p in folder.iterdir()) == ["served", "young"]


def test_what_is_served_stays_though_the_stages_have_moved_on(nights: Shop):
    def chain(version: int, folder: str) -> served.Chain:
        return chain_of(folder, {"item_rows": version}, {"catalog": version}, folder)

    models = nights.chain.workspace / "models"
    for name in ("older", "served", "other"):
        (models / name).mkdir(parents=True)
        (models / name / "model.json").write_bytes(b"x")
    learned = LEARNED.place(nights.chain.workspace, "a" * 64).local
    learned.mkdir(parents=True)
    (learned / "learned.json").write_bytes(b"x")
    gone = chain(9, "gone")  # of tables that were made anew since: nothing to keep, and nothing to stop for
    promoting.serve(nights.chain.workspace, gone, "2025-12-31", "zero")
    older = served.Promotion(learned={"text": "a" * 64})
    promoting.serve(nights.chain.workspace, chain(0, "older"), "2026-01-01", "one", older)
    promoting.serve(nights.chain.workspace, chain(1, "served"), "2026-01-02", "two")
    shutil.rmtree(nights.chain.workspace / "runs")
    nights.age(days=30)
    nights.collect(gc__keep_versions=1)  # gc.keep_served of the results before it stay, to roll back to
    for table in ("catalog", "item_rows"):
        assert [nights.readable(table, v) for v in range(4)] == [True, True, False, True]
    assert sorted(p.name for p in models.iterdir()) == ["older", "served"]
    assert learned.exists()
    nights.collect(gc__keep_versions=1, gc__keep_served=0)
    for table in ("catalog", "item_rows"):
        assert [nights.readable(table, v) for v in range(4)] == [False, True, False, True]
    assert [p.name for p in models.iterdir()] == ["served"]
    assert not learned.exists()


def test_a_damaged_log_is_refused_with_3_and_nothing_is_removed(nights: Shop):
    nights.age(days=30)
    (log,) = nights.chain.workspace.glob("tables/users/_delta_log/*0.json")
    log.write_text("{", encoding="utf-8")
    before = nights.files()
    words = nights.chain.words(conf=[nights.conf], gc__keep_versions=1)
    said: list[str] = []
    assert run_job("gc", [COLLECT], words, said.append) == 3
    assert nights.files() == before
    assert any("users" in line for line in said)


def test_every_table_of_a_workspace_is_looked_at(nights: Shop):
    names = garbage.table_names(nights.store)
    assert {"catalog", "item_rows", "interactions", "history", "users", "quarantine"} < set(names)
    assert any(name.startswith("features/text-") for name in names)
