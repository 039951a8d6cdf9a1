"""Nights over tables that others made: odd names, types and paths end in the catalog with their right values."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import Chain

from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST

pytestmark = pytest.mark.slow

STAGES = [INGEST, EMBED]
ROOT = "in [1] {x} 50%20 #ü?"
OWN = ["_file", "_row", "_item", "_old", "_metadata", "item_id", "file", "row", "title", "_change_text"]
"""Names that our own frames use too."""


def put(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def chain(tmp_path: Path, spark: SparkSession) -> Chain:
    return Chain(tmp_path / "my shop [1] {x} 50% ü+*;& ws", tmp_path / ROOT)


def night(chain: Chain, settings: dict[str, Any], date: str = "2026-01-02") -> dict[str, Any]:
    conf = chain.root / "own.yaml"
    conf.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    result = chain.run(STAGES, conf=[conf], date=date)
    assert result["exit_code"] == 0, result["error"]
    return result


def settings(items: dict[str, Any], events: dict[str, Any], columns: list[str], **more: Any) -> dict[str, Any]:
    return {
        "inputs": {"items": items, "interactions": events} | more,
        "encoders": {"words": {"type": "hashing", "dim": 16}},
        "modalities": {"text": {"kind": "text", "columns": columns, "encoder": "words"}},
    }


def test_odd_names_types_and_paths_end_in_the_catalog_and_stay_unchanged_the_next_night(chain: Chain):
    root = chain.root
    for n, (folder, file) in enumerate((("brand=Acme", "part [1]#.parquet"), ("brand=50%25 ü", "b.PQ"))):
        names = {"item.id": [n], "product name": [f"lamp {n}"], "Product Name": ["other"]}
        own = {name: [f"{name} of {n}"] for name in OWN}
        odd = {"Größe (cm)": [1.5 + n], "unread": pa.array([1], pa.timestamp("ns"))}
        times = {"made": pa.array([n * 1000], pa.timestamp("ns")), "at": pa.array([n], pa.time64("ns"))}
        put(root / "items" / folder / file, names | own | odd | times)
    when = pa.array([1_735_689_600_000_000_001] * 2, pa.timestamp("ns"))
    weights = pa.array([decimal.Decimal("2.5"), decimal.Decimal(4)], pa.decimal128(10, 2))
    put(root / "events.parquet", {"user `id`": ["u", "u"], "item.id": [0, 1], "how.much": weights, "when": when})
    put(root / "_people" / "a.parq", {"user.id": ["u"], "age (y)": [7]})
    attributes = [*OWN, "brand", "Größe (cm)", "made", "at"]
    columns = {"user": "user `id`", "item": "item.id", "weight": "how.much", "time": "when"}
    given = settings(
        {"path": str(root / "items"), "id": "item.id", "title": "product name", "attributes": attributes},
        {"path": str(root / "events.parquet")} | columns,
        ["product name", "_file"],
        users={"path": str(root / "_people"), "id": "user.id", "attributes": ["age (y)"]},
    )  # fmt: skip
    first = night(chain, given)
    catalog = {row["item_id"]: row for row in chain.table("catalog")}
    assert {i: row["title"] for i, row in catalog.items()} == {"0": "lamp 0", "1": "lamp 1"}
    assert dict(catalog["1"]["attributes"]) == {name: f"{name} of 1" for name in OWN} | {
        "brand": "50% ü", "Größe (cm)": "2.5", "made": "1970-01-01 00:00:00.000001", "at": "00:00:00",
    }  # fmt: skip
    events = sorted((row["item_id"], row["weight"], row["event_time"]) for row in chain.table("interactions"))
    moment = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    assert events == [("0", 2.5, moment), ("1", 4.0, moment)]
    assert [dict(row["attributes"]) for row in chain.table("users")] == [{"age (y)": "7"}]
    assert first["metrics"]["embed.text.encoded"] == 2
    places = {(row["file"], row["row"]) for row in chain.table("item_rows")}
    assert places == {("brand=Acme/part [1]#.parquet", 0), ("brand=50%25 ü/b.PQ", 0)}
    assert night(chain, given, "2026-01-03")["status"] == "noop"


def test_a_part_that_makes_a_column_wider_lets_every_file_be_read_again(chain: Chain):
    events = {"path": str(chain.root / "e.parquet"), "user": "u", "item": "i"}
    items = {"path": str(chain.root / "items"), "id": "i", "title": "t", "attributes": ["price"]}
    put(chain.root / "e.parquet", {"u": ["x"], "i": [1]})
    put(chain.root / "items" / "a.parquet", {"i": [1], "t": ["Lamp"], "price": [5]})
    night(chain, settings(items, events, ["t"]))
    put(chain.root / "items" / "b.parquet", {"price": [2.5], "i": [2], "t": ["Mug"]})
    (chain.root / "items" / "README.md").write_text("about")
    second = night(chain, settings(items, events, ["t"]))
    assert second["metrics"]["ingest.item_files_read"] == 2
    assert {row["item_id"]: dict(row["attributes"]) for row in chain.table("catalog")} == {
        "1": {"price": "5.0"}, "2": {"price": "2.5"},
    }  # fmt: skip
    (warning,) = second["stages"][0]["warnings"]
    assert "README.md" in warning


@pytest.mark.parametrize("name", ["50%20 off", "a#b", "who?", "c:d", "back\\slash", "line\nbreak"])
def test_a_workspace_that_the_tables_log_would_take_for_another_is_refused(chain: Chain, tmp_path: Path, name: str):
    put(chain.root / "e.parquet", {"u": ["x"], "i": [1]})
    events = {"path": str(chain.root / "e.parquet"), "user": "u", "item": "i"}
    conf = chain.root / "own.yaml"
    conf.write_text(json.dumps(settings({"path": events["path"], "id": "i", "title": None}, events, ["u"])))
    result = Chain(tmp_path / name, chain.root).run(STAGES, conf=[conf])
    assert (result["exit_code"], result["error"]["type"]) == (2, "SettingsError")
    assert str(tmp_path / name) in result["error"]["message"]
