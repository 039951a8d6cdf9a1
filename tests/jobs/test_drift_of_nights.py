"""Drift between two nights written by hand: what came, went and changed, and how far vectors and scores moved."""

from __future__ import annotations

import datetime
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from support import chain_of

from crossweave.artifacts.scored import SCORED, save_item_ids
from crossweave.artifacts.sealed import building, publish
from crossweave.evaluation.report_content import DriftRow
from crossweave.stages.evaluate.drift import drift_rows, of_the_data, warnings_of
from crossweave.storage.location import Location
from crossweave.tables.schema import spark_schema
from crossweave.tables.served import Chain
from crossweave.tables.store import TableStore

pytestmark = pytest.mark.slow

ITEMS = [f"i{n:02}" for n in range(20)]
DAY = datetime.date(2026, 1, 2)
FIRST, SECOND = "features/text-aa", "features/text-bb"


class Workspace:
    """Two nights of 20 items, of which tests say what differs."""

    def __init__(self, folder: Path, spark: SparkSession, settings) -> None:
        self.folder, self.spark, self.settings = folder, spark, settings
        self.store = TableStore(folder / "tables")
        self.rng = np.random.default_rng(5)
        self.item_ND = self.rng.standard_normal((len(ITEMS), 6)).astype(np.float32)

    def write(self, table: str, rows: list) -> int:
        head = self.store.snapshot(table)
        frame = self.spark.createDataFrame(rows, spark_schema(table))
        return self.store.write(frame, table, "replace", base=head.version if head else None).version

    def night(
        self, name: str, contents: dict[str, str], item_ND: np.ndarray, scores: np.ndarray, features: str, turn: float
    ) -> Chain:
        catalog = [
            (item, item, False, {}, {"text": (1, content)}, "active", DAY, DAY) for item, content in contents.items()
        ]
        catalog.append(("gone", "gone", False, {}, {"text": (1, "x")}, "removed", DAY, DAY))
        vectors = []
        for content in sorted(set(contents.values())):
            # A content's vector by its number, turned by so much.
            angle = turn + int(content[1:]) / 10
            raw = np.array([np.cos(angle), np.sin(angle)], "<f2").tobytes()
            vectors.append((content, raw, DAY, zlib.crc32(raw, zlib.crc32(content.encode()))))
        lists = [
            (DAY, f"u{n}", 1 + k, ITEMS[k], float(score), {}, [], None, None)
            for n, row in enumerate(scores)
            for k, score in enumerate(row)
        ]
        wrote = {"catalog": self.write("catalog", catalog), "recommendations": self.write("recommendations", lists)}
        reads = {features: self.write(features, vectors)}
        scored = Location.of(self.folder) / "scored" / name
        with building(scored) as draft:
            np.save(draft / "target.npy", item_ND)
            np.save(draft / "center.npy", item_ND.mean(axis=0))
            save_item_ids(draft, pa.array(list(contents)))
            publish(SCORED, draft, scored, "score", {})
        return chain_of(name, reads, wrote, name)

    def judging(self) -> SimpleNamespace:
        return SimpleNamespace(
            settings=self.settings, store=self.store, spark=self.spark, workspace=self.folder, headline_k=20
        )

    def drift(self, before: Chain, now: Chain) -> dict[str, DriftRow]:
        judging = self.judging()
        rows, unknown = drift_rows(judging, before, now)
        assert unknown == ""
        return {row.name: row for row in rows}


@pytest.fixture
def workspace(tmp_path: Path, spark: SparkSession, make_settings) -> Workspace:
    return Workspace(tmp_path / "ws", spark, make_settings())


def test_two_nights_that_are_alike_but_for_a_rotation_and_what_all_share_have_no_drift(workspace: Workspace) -> None:
    contents, scores = {item: f"c{n}" for n, item in enumerate(ITEMS)}, workspace.rng.random((8, 10))
    rotation, _ = np.linalg.qr(workspace.rng.standard_normal((6, 6)))
    turned_ND = (workspace.item_ND @ rotation + 9.0).astype(np.float32)
    before = workspace.night("one", contents, workspace.item_ND, scores, FIRST, 0.0)
    found = workspace.drift(before, workspace.night("two", contents, turned_ND, scores, FIRST, 0.0))
    assert {name: row.value for name, row in found.items()} == {
        "items added": 0,
        "items removed": 0,
        "items changed": 0,
        "vectors of text": 0,
        "item vectors": 1,
        "scores": 0,
    }
    assert warnings_of(list(found.values())) == []


def test_what_came_went_and_changed_is_counted_and_what_passes_its_limit_warns(workspace: Workspace) -> None:
    contents, scores = {item: f"c{n}" for n, item in enumerate(ITEMS)}, workspace.rng.random((8, 10))
    before = workspace.night("one", contents, workspace.item_ND, scores, FIRST, 0.0)
    changed = dict(list(contents.items())[2:]) | {"i05": "c15", "new1": "c30", "new2": "c31", "new3": "c1"}
    item_ND = workspace.rng.standard_normal((len(changed), 6)).astype(np.float32)
    found = workspace.drift(before, workspace.night("two", changed, item_ND, scores + 1.0, FIRST, 0.0))
    value = {name: row.value for name, row in found.items()}
    assert (value["items added"], value["items removed"], value["items changed"]) == (3 / 20, 2 / 20, 1 / 20)
    # 1 of 18 items is another content, turned by 1 radian.
    assert value["vectors of text"] == pytest.approx((1 - np.cos(1.0)) / 18, abs=1e-3)
    assert value["item vectors"] < 0.8  # 10 of 17 by chance
    assert value["scores"] > 5
    (said,) = warnings_of(list(found.values()))
    assert said.startswith("drift: stability index of the scores is")


def test_another_encoder_moves_every_vector(workspace: Workspace) -> None:
    contents, scores = {item: f"c{n}" for n, item in enumerate(ITEMS)}, workspace.rng.random((8, 10))
    before = workspace.night("one", contents, workspace.item_ND, scores, FIRST, 0.0)
    found = workspace.drift(before, workspace.night("two", contents, workspace.item_ND, scores, SECOND, 0.5))
    assert found["vectors of text"].value == pytest.approx(1 - np.cos(0.5), abs=1e-3)
    assert found["vectors of text"].warns
    assert found["items changed"].value == 0


def test_what_a_new_encoder_moves_is_no_reason_to_learn_anew(workspace: Workspace) -> None:
    """Else an encoder that learned would learn again the night after, and so on."""
    contents, scores = {item: f"c{n}" for n, item in enumerate(ITEMS)}, workspace.rng.random((8, 10))
    before = workspace.night("one", contents, workspace.item_ND, scores, FIRST, 0.0)
    changed = dict(list(contents.items())[12:])
    other_ND = workspace.rng.standard_normal((8, 6)).astype(np.float32)
    learned = workspace.night("two", changed, other_ND, scores + 1.0, SECOND, 0.5)
    rows = list(workspace.drift(before, learned).values())
    assert {row.name for row in rows if row.warns} >= {"vectors of text", "scores", "items removed"}
    told = of_the_data(rows, before, learned)
    assert [row.name for row in told if row.warns] == ["items removed"]
    same = workspace.night("three", changed, other_ND, scores + 1.0, FIRST, 0.0)
    rows = list(workspace.drift(before, same).values())
    assert of_the_data(rows, before, same) == rows
    assert of_the_data(rows, None, same) == rows


def test_what_cannot_be_read_any_more_is_said(workspace: Workspace) -> None:
    contents, scores = {item: f"c{n}" for n, item in enumerate(ITEMS)}, workspace.rng.random((8, 10))
    before = workspace.night("one", contents, workspace.item_ND, scores, FIRST, 0.0)
    now = workspace.night("two", contents, workspace.item_ND, scores, FIRST, 0.0)
    (workspace.folder / "scored" / "one" / "item_ids.arrow").unlink()
    rows, unknown = drift_rows(workspace.judging(), before, now)
    assert rows == []
    assert "cannot be read any more" in unknown
