"""What a night reads: changed files, changed rows, and columns that settings derive."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import Chain, stage

from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST

pytestmark = pytest.mark.slow

TWO_STAGES = [INGEST, EMBED]
CONF = """
inputs:
  items: {attributes: [year], updated_at: %s, derived: {year: "%s"}}
encoders:
  words: {type: hashing, dim: 16}
  numbers: {type: tabular, columns: {year: {as: number, scale: bins, bins: 2}}}
modalities:
  text: {kind: text, columns: [title], encoder: words}
  facts: {kind: attributes, columns: [year], encoder: numbers}
"""
YEAR = r"cast(nullif(regexp_extract(title, '\\\\((\\\\d{4})\\\\)$', 1), '') as int)"
SINCE = 1_700_000_000  # what the times of change below are counted from
OLD, NEW = "old part%20 ä+.parquet", "sub=1/new.parquet"


class Shop:
    """Items in two files, and one interaction."""

    def __init__(self, folder: Path, updated_at: str = "null", year: str = YEAR) -> None:
        self.root = folder / "in"
        self.conf = folder / "own.yaml"
        self.conf.write_text(CONF % (updated_at, year), encoding="utf-8")
        self.chain = Chain(folder / "ws", self.root)
        self.items(OLD, {"a": "Lamp (1995)", "b": "Mug (2003)"})
        self.items(NEW, {"c": "Rug"})
        self.interactions("u")

    def items(self, file: str, titles: dict[str, str], times: list[int | None] | None = None) -> None:
        path = self.root / "items.parquet" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                "item_id": list(titles),
                "title": list(titles.values()),
                "changed": pa.array([t and SINCE + t for t in times or [None] * len(titles)], pa.int64()),
            }
        )
        pq.write_table(table, path, compression="none", use_dictionary=False)

    def interactions(self, *users: str) -> None:
        pq.write_table(pa.table({"user_id": users, "item_id": ["a"] * len(users)}), self.root / "interactions.parquet")

    def spoil(self, file: str) -> None:
        """Turn a file's pages into garbage that any read would trip over, leaving its footer, size and time."""
        path = self.root / "items.parquet" / file
        before, data = path.stat(), bytearray(path.read_bytes())
        data[4:100] = b"\xff" * 96
        path.write_bytes(bytes(data))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def night(self, **pairs) -> dict:
        result = self.chain.run(TWO_STAGES, conf=[self.conf], **pairs)
        assert result["exit_code"] == 0, result["error"]
        return result

    def catalog(self) -> dict[str, dict]:
        return {row["item_id"]: row for row in self.chain.table("catalog")}


@pytest.fixture
def shop_of_three(tmp_path: Path, spark: SparkSession) -> Shop:
    return Shop(tmp_path)


def test_files_that_did_not_change_are_not_read_by_any_stage(shop_of_three: Shop):
    first = shop_of_three.night()
    assert first["metrics"]["ingest.item_files_read"] == 2
    before = shop_of_three.catalog()
    shop_of_three.spoil(OLD)
    shop_of_three.items(NEW, {"c": "Rug (2020)", "d": "Vase"})
    second = shop_of_three.night()
    assert second["metrics"]["ingest.item_files_read"] == 1
    assert second["metrics"]["ingest.items_new_or_changed"] == 2
    assert second["metrics"]["embed.text.encoded"] == 2
    after = shop_of_three.catalog()
    assert [after[i]["hashes"] for i in "ab"] == [before[i]["hashes"] for i in "ab"]
    assert after["c"]["title"] == "Rug (2020)"


def test_a_file_that_is_renamed_or_removed_costs_no_encoding(shop_of_three: Shop):
    shop_of_three.night()
    folder = shop_of_three.root / "items.parquet"
    (folder / OLD).rename(folder / "renamed.parquet")
    (folder / NEW).unlink()
    second = shop_of_three.night()
    assert second["metrics"]["embed.text.encoded"] == 0
    assert second["metrics"]["ingest.items_removed"] == 1
    assert {i: row["status"] for i, row in shop_of_three.catalog().items()} == {
        "a": "active",
        "b": "active",
        "c": "removed",
    }


def test_an_id_that_a_changed_file_repeats_is_quarantined_though_the_other_file_was_not_read(shop_of_three: Shop):
    shop_of_three.night()
    shop_of_three.spoil(OLD)
    shop_of_three.items(NEW, {"c": "Rug", "a": "another lamp"})
    second = shop_of_three.night()
    assert stage(second, "ingest")["quarantined"] == {"duplicate_id": 1}
    (row,) = [row for row in shop_of_three.chain.table("quarantine") if row["reason"] == "duplicate_id"]
    assert (row["item_id"], row["detail"]) == ("a", f"row 1 of {NEW}")
    assert shop_of_three.catalog()["a"]["title"] == "Lamp (1995)"


def test_interactions_are_read_again_only_where_they_or_the_known_items_changed(shop_of_three: Shop):
    first = shop_of_three.night()
    shop_of_three.items(NEW, {"c": "Rug, red"})
    same_items = shop_of_three.night()
    assert stage(same_items, "ingest")["writes"]["interactions"] == stage(first, "ingest")["writes"]["interactions"]
    assert same_items["metrics"]["ingest.interactions.skipped"] == 1
    shop_of_three.items(OLD, {"b": "Mug (2003)"})
    moved = shop_of_three.night()
    assert stage(moved, "ingest")["quarantined"] == {"unknown_item": 1}
    shop_of_three.items(OLD, {"a": "Lamp (1995)", "b": "Mug (2003)"})
    shop_of_three.interactions("u", "v")
    assert shop_of_three.night()["metrics"]["ingest.interactions.rows_out"] == 2


def test_rows_whose_time_of_change_was_seen_before_keep_their_hashes_and_the_others_are_read(
    tmp_path: Path, spark: SparkSession
):
    shop = Shop(tmp_path, updated_at="changed")
    shop.items(NEW, {"y": "Bowl (1970)"})
    titles = {"a": "Lamp", "b": "Mug", "n": "Rug"}
    shop.items(OLD, titles, [1000, 2000, None])
    shop.night()
    before = shop.catalog()
    shop.items(OLD, {"a": "Lamp?", "b": "Mug!", "n": "Rug!", "z": "Vase"}, [1000, 3000, None, 500])
    second = shop.night()
    after = shop.catalog()
    # The lamp's time says that it did not change; that is what the setting promises.
    assert after["a"]["hashes"] == before["a"]["hashes"]
    assert [after[i]["title"] for i in "abnz"] == ["Lamp", "Mug!", "Rug!", "Vase"]
    assert second["metrics"]["ingest.items_new_or_changed"] == 3
    assert second["metrics"]["embed.text.encoded"] == 3
    shop.items(OLD, {"a": "Lamp?", "b": "Mug!!"}, [4000, 5000])  # all dated: the filter reaches the file
    shop.night()
    after = shop.catalog()
    assert [(after[i]["title"], after[i]["status"]) for i in "abn"] == [
        ("Lamp?", "active"),
        ("Mug!!", "active"),
        ("Rug!", "removed"),
    ]


@pytest.mark.parametrize(("limit", "read"), [("item_rows.KNOWN_ROWS", True), ("item_rows.KNOWN_CELLS", False)])
def test_where_too_many_rows_are_new_to_travel_every_row_of_a_changed_file_is_read(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, limit: str, read: bool
):
    shop = Shop(tmp_path, updated_at="changed")
    shop.items(OLD, {"a": "Lamp", "b": "Mug (1970)"}, [1000, 2000])
    shop.night()
    monkeypatch.setattr(f"crossweave.tables.{limit}", 1)
    monkeypatch.setattr("crossweave.tables.payloads.BROADCAST_ROWS", 1)
    shop.items(OLD, {"a": "Lamp?", "b": "Mug!", "z": "Vase"}, [1000, 3000, 500])
    second = shop.night()
    assert {i: row["title"] for i, row in shop.catalog().items()} == {
        "a": "Lamp?" if read else "Lamp",  # of the same time as before
        "b": "Mug!",
        "z": "Vase",
        "c": "Rug",
    }
    assert second["metrics"]["embed.text.encoded"] == 2 + read


def test_a_derived_column_is_an_attribute_and_a_modality_like_any_other(shop_of_three: Shop):
    result = shop_of_three.night()
    attributes = {i: dict(row["attributes"]) for i, row in shop_of_three.catalog().items()}
    assert attributes == {"a": {"year": "1995"}, "b": {"year": "2003"}, "c": {}}
    assert result["metrics"]["embed.facts.encoded"] == 2


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("nope + 1", "is no expression over its columns"),
        ("1 +", "is no expression over its columns"),
        ("max(changed)", "is no expression over its columns"),
        ("row_number() over (order by item_id)", "looks at more than its own row"),
        ("explode(array(1, 2))", "looks at more than its own row"),
        ("rand()", "is another value each time"),
        ("year(current_date())", "is another value each time"),
        ("(select max(id) from range(3))", "is another value each time"),
    ],
)
def test_a_derived_column_that_is_no_value_of_its_row_is_refused_by_name(
    tmp_path: Path, spark: SparkSession, expression: str, words: str
):
    shop = Shop(tmp_path, year=expression)
    result = shop.chain.run(TWO_STAGES, conf=[shop.conf])
    assert result["exit_code"] == 2
    assert result["error"]["message"].startswith("inputs.items.derived.year ")
    assert words in result["error"]["message"]


def test_a_derived_column_may_not_hide_one_of_the_files_nor_read_one_that_a_file_lacks(
    tmp_path: Path, spark: SparkSession
):
    shop = Shop(tmp_path)
    hiding = shop.chain.run(TWO_STAGES, conf=[shop.conf], inputs__items__derived={"year": "1", "title": "item_id"})
    assert (hiding["exit_code"], hiding["error"]["type"]) == (2, "SettingsError")
    assert "inputs.items.derived.title" in hiding["error"]["message"]
    path = shop.root / "items.parquet" / NEW
    pq.write_table(pq.read_table(path).drop(["changed"]), path)
    lacking = shop.chain.run(TWO_STAGES, conf=[shop.conf], inputs__items__derived={"year": "cast(changed as int)"})
    assert lacking["exit_code"] == 3
    assert "new.parquet" in lacking["error"]["message"]
    assert "'changed'" in lacking["error"]["message"]


def test_many_small_files_of_a_feature_table_become_one_with_the_same_vectors(shop_of_three: Shop):
    shop_of_three.night(embed__compact_files=2)
    before = shop_of_three.chain.features()["text"]
    for number in range(3):
        shop_of_three.items(NEW, {"c": f"Rug {number}"})
        shop_of_three.night(embed__compact_files=2)
    (table,) = (shop_of_three.chain.workspace / "tables" / "features").glob("text-*")
    from crossweave.tables.store import TableStore

    snapshot = TableStore(shop_of_three.chain.workspace / "tables").required(f"features/{table.name}")
    assert len(snapshot.files) <= 2
    after = shop_of_three.chain.features()["text"]
    assert len(after) == snapshot.rows == 6
    assert before.items() < after.items()


def test_a_value_that_a_derived_column_cannot_take_ends_the_night_with_3(tmp_path: Path, spark: SparkSession):
    shop = Shop(tmp_path, year="cast(title as int)")
    result = shop.chain.run(TWO_STAGES, conf=[shop.conf])
    assert (result["exit_code"], result["error"]["type"]) == (3, "InputContractError")
    assert "cannot be cast" in result["error"]["message"]
    assert "try_cast" in result["error"]["hint"]
