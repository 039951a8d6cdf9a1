"""Nights that follow each other: what changed is worked on, and nothing else."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import Chain, stage

from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST

TWO_STAGES = [INGEST, EMBED]
CONF = """
inputs:
  items: {attributes: [price]}
encoders:
  words: {type: hashing, dim: 16}
  numbers: {type: column, dim: 2}
modalities:
  text: {kind: text, columns: [title, text], encoder: words}
  style: {kind: vector, columns: [style], encoder: numbers}
embed: {min_bad_count: 0}
"""
ITEMS = [
    {"item_id": 1, "title": "red lamp", "text": "a lamp", "style": [1.0, 0.0], "price": 3.5},
    {"item_id": 2, "title": "blue mug", "text": None, "style": None, "price": None},
    {"item_id": 3, "title": "red lamp", "text": "a lamp", "style": [0.0, 1.0], "price": 2.0},
    {"item_id": 2**53 + 1, "title": "Ünïcode ☕", "text": "x", "style": [1.0, 0.0], "price": 1.0},
]
SCHEMA = pa.schema(
    [
        ("item_id", pa.int64()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("style", pa.list_(pa.float32())),
        ("price", pa.float64()),
    ]
)


class Shop:
    """A few items and interactions that a test may change between nights."""

    def __init__(self, folder: Path, spark: SparkSession) -> None:
        self.root = folder / "in"
        self.root.mkdir()
        self.conf = folder / "own.yaml"
        self.conf.write_text(CONF, encoding="utf-8")
        self.chain = Chain(folder / "ws", self.root)
        self.items(ITEMS)
        self.interactions([("a", 1), ("a", 2), ("b", 3)])

    def items(self, rows: list[dict], schema: pa.Schema = SCHEMA) -> None:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), self.root / "items.parquet")

    def interactions(self, pairs: list[tuple[str | None, int | None]]) -> None:
        users, items = zip(*pairs, strict=True)
        table = pa.table({"user_id": pa.array(users, pa.string()), "item_id": pa.array(items, pa.int64())})
        pq.write_table(table, self.root / "interactions.parquet")

    def night(self, **pairs) -> dict:
        return self.chain.run(TWO_STAGES, conf=[self.conf], **pairs)


@pytest.fixture
def shop_of_four(tmp_path: Path, spark: SparkSession) -> Shop:
    return Shop(tmp_path, spark)


def encoded(result: dict) -> tuple[float, float]:
    assert result["exit_code"] == 0, result["error"]
    return result["metrics"]["embed.text.encoded"], result["metrics"]["embed.style.encoded"]


def test_equal_contents_are_encoded_once_and_a_second_night_encodes_nothing(shop_of_four: Shop):
    first = shop_of_four.night()
    assert encoded(first) == (3, 2)  # items 1 and 3 share a text, items 1 and 4 a style
    assert stage(first, "embed")["rows_in"] == 4 + 3
    assert encoded(shop_of_four.night()) == (0, 0)


@pytest.mark.slow
def test_a_night_encodes_only_what_changed_in_the_modality_that_changed(shop_of_four: Shop):
    shop_of_four.night()
    before = shop_of_four.chain.features()
    changed = [dict(row) for row in ITEMS]
    changed[1]["text"] = "now with a text"
    shop_of_four.items(changed)
    result = shop_of_four.night()
    assert encoded(result) == (1, 0)
    assert result["metrics"]["ingest.items_new_or_changed"] == 1
    after = shop_of_four.chain.features()
    assert after["style"] == before["style"]
    assert before["text"].items() < after["text"].items()


@pytest.mark.slow
def test_removed_items_stay_in_the_catalog_as_removed_and_come_back_without_encoding(shop_of_four: Shop):
    shop_of_four.night()
    shop_of_four.items(ITEMS[:3])
    shop_of_four.night(date="2026-01-03")
    status = {row["item_id"]: row["status"] for row in shop_of_four.chain.table("catalog")}
    assert status == {"1": "active", "2": "active", "3": "active", str(2**53 + 1): "removed"}
    shop_of_four.items(ITEMS)
    assert encoded(shop_of_four.night(date="2026-01-04")) == (0, 0)
    rows = {row["item_id"]: row for row in shop_of_four.chain.table("catalog")}
    back = rows[str(2**53 + 1)]
    assert (back["status"], str(back["first_seen"]), str(back["last_seen"])) == ("active", "2026-01-02", "2026-01-04")


@pytest.mark.slow
def test_a_new_encoder_setting_fills_a_new_table_and_leaves_the_old_one(shop_of_four: Shop):
    shop_of_four.night()
    folders = lambda: {p.name for p in (shop_of_four.chain.workspace / "tables" / "features").iterdir()}  # noqa: E731
    before = folders()
    assert encoded(shop_of_four.night(encoders__words__dim=32)) == (3, 0)
    assert before < folders()


@pytest.mark.slow
def test_large_integer_ids_stay_exact_and_attributes_are_kept(shop_of_four: Shop):
    shop_of_four.night()
    rows = {row["item_id"]: dict(row["attributes"]) for row in shop_of_four.chain.table("catalog")}
    assert rows == {"1": {"price": "3.5"}, "2": {}, "3": {"price": "2.0"}, str(2**53 + 1): {"price": "1.0"}}


@pytest.mark.slow
def test_null_and_unknown_ids_of_interactions_are_quarantined_with_file_and_row(shop_of_four: Shop):
    shop_of_four.interactions([("a", 1), (None, 2), ("b", None), ("c", 99), ("", 3)])
    result = shop_of_four.night()
    assert stage(result, "ingest")["quarantined"] == {"null_id": 3, "unknown_item": 1}
    rows = [row for row in shop_of_four.chain.table("quarantine") if row["reason"] == "unknown_item"]
    assert [(row["item_id"], row["user_id"], row["detail"]) for row in rows] == [
        ("99", "c", "row 3 of interactions.parquet")
    ]


@pytest.mark.slow
def test_too_many_bad_contents_end_the_run_with_4_and_keep_the_good_ones(shop_of_four: Shop):
    rows = [dict(row) for row in ITEMS]
    rows[2]["style"] = [1.0, float("nan")]
    shop_of_four.items(rows)
    result = shop_of_four.night()
    assert (result["status"], result["exit_code"], result["error"]["type"]) == ("failed", 4, "BudgetExceededError")
    assert "style: 1 of 2 (non_finite 1)" in result["error"]["message"]
    assert len(shop_of_four.chain.features()["style"]) == 1
    assert shop_of_four.night()["exit_code"] == 4  # still as bad, though nothing was tried again
    assert len([r for r in shop_of_four.chain.table("quarantine") if r["stage"] == "embed"]) == 1
    allowed = shop_of_four.night(embed__max_bad_fraction=0.6)
    assert (allowed["exit_code"], *encoded(allowed)) == (0, 0, 0)


def retyped(path: Path) -> pa.Table:
    table = pq.read_table(path)
    return table.set_column(0, "item_id", table.column("item_id").cast(pa.float64(), safe=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not readable Parquet"),
        (lambda path: pq.write_table(pq.read_table(path).drop(["style"]), path), "lacks the column 'style'"),
        (lambda path: pq.write_table(retyped(path), path), "'item_id' should be"),
    ],
)
def test_a_damaged_catalog_is_refused_with_3_by_name_and_nothing_is_committed(shop_of_four: Shop, damage, words: str):
    shop_of_four.night()
    before = shop_of_four.chain.table("catalog")
    damage(shop_of_four.root / "items.parquet")
    result = shop_of_four.night()
    assert result["exit_code"] == 3
    assert "items.parquet" in result["error"]["message"]
    assert words in result["error"]["message"]
    assert shop_of_four.chain.table("catalog") == before


@pytest.mark.slow
def test_a_page_damaged_in_the_middle_of_a_file_is_refused_with_3_by_name(shop_of_four: Shop):
    path = shop_of_four.root / "items.parquet"
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56  # the footer stays whole
    path.write_bytes(bytes(data))
    result = shop_of_four.night()
    assert result["exit_code"] == 3, result["error"]
    assert "items.parquet" in result["error"]["message"]


@pytest.mark.slow
def test_an_empty_catalog_is_ingested_and_embedded_as_nothing(shop_of_four: Shop):
    shop_of_four.items([])
    result = shop_of_four.night()
    assert (result["exit_code"], *encoded(result)) == (0, 0, 0)
    assert stage(result, "ingest")["quarantined"] == {"unknown_item": 3}


@pytest.mark.slow
def test_the_resolved_settings_are_saved_with_the_run(shop_of_four: Shop):
    shop_of_four.night()
    saved = (shop_of_four.chain.workspace / "runs" / "latest" / "config.yaml").read_text(encoding="utf-8")
    assert json.dumps(str(shop_of_four.root))[1:-1] in saved
