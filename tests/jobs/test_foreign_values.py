"""Values that are right in type and wrong in meaning: what ingest takes, what it refuses, and what it says."""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import Chain, stage

from crossweave import pipeline
from crossweave.config import load_settings
from crossweave.stages.ingest import INGEST

pytestmark = pytest.mark.slow

START = 1_735_689_600  # 2025-01-01
CONF = """
inputs:
  items: {path: "${inputs.root}/goods.parquet", id: sku, title: null}
  interactions: {path: "${inputs.root}/sales.parquet", user: customer, item: sku, time: at}
split: {method: none}
ingest: {min_refused_count: 0}
"""
SALES = 40


class Shop:
    """Ten goods and forty sales of them by four customers, an hour apart; a test replaces a column."""

    def __init__(self, folder: Path) -> None:
        self.root, self.conf, self.chain = folder / "in", folder / "own.yaml", Chain(folder / "ws", folder / "in")
        self.root.mkdir()
        self.conf.write_text(CONF, encoding="utf-8")
        self.goods()
        self.sales()

    def goods(self, **columns: Any) -> None:
        pq.write_table(pa.table({"sku": range(1, 11), **columns}), self.root / "goods.parquet")

    def sales(self, **columns: Any) -> None:
        plain = {
            "customer": [f"c{n % 4}" for n in range(SALES)],
            "sku": [1 + n % 10 for n in range(SALES)],
            "at": [START + 3600 * n for n in range(SALES)],
        }
        pq.write_table(pa.table(plain | columns), self.root / "sales.parquet")

    def night(self, **pairs: Any) -> dict[str, Any]:
        return self.chain.run([INGEST], conf=[self.conf], **pairs)

    def taken(self, **pairs: Any) -> list[dict[str, Any]]:
        result = self.night(**pairs)
        assert result["exit_code"] == 0, result["error"]
        return self.chain.table("interactions")

    def refused(self) -> list[tuple[str, str]]:
        return [(row["reason"], row["detail"]) for row in self.chain.table("quarantine")]


@pytest.fixture
def small(tmp_path: Path, spark: SparkSession) -> Shop:
    return Shop(tmp_path)


def error(result: dict[str, Any], code: int) -> tuple[str, str]:
    assert result["exit_code"] == code, result
    return result["error"]["message"], result["error"]["hint"]


# Times -----------------------------------------------------------------------------------------------------------

TIMES = [datetime.datetime(2025, 1, 1) + datetime.timedelta(hours=n) for n in range(SALES)]


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([datetime.datetime(1, 1, 1), *TIMES[1:]], pa.timestamp("us")), ["0001-01-01 00:00:00"]),
        (pa.array([math.inf, math.nan, 1e300, *[float(START)] * (SALES - 3)]), ["Infinity", "NaN", "1.0E300"]),
        (
            ["1811-01-01", "soon", "2300-01-01", *[t.isoformat() for t in TIMES[3:]]],
            ["1811-01-01", "soon", "2300-01-01"],
        ),
    ],
    ids=["timestamps", "doubles", "texts"],
)
def test_one_absurd_time_is_one_refused_row_with_its_place_and_value(small: Shop, column: Any, shown: list[str]):
    small.sales(at=column)
    rows = small.taken()
    assert len(rows) == SALES - len(shown)
    assert {row["event_time"].year for row in rows} == {2025}
    wanted = [("bad_time", f"row {n} of sales.parquet: at is {value}") for n, value in enumerate(shown)]
    assert sorted(small.refused(), key=lambda row: row[1]) == wanted


def test_ancient_times_of_the_items_leave_every_item_and_the_attribute_as_it_is(small: Shop):
    days = [datetime.date(1, 1, 1), *[datetime.date(1900 + n, 1, 1) for n in range(9)]]
    moments = [datetime.datetime(day.year, 1, 1) for day in days]
    small.goods(day=pa.array(days), moment=pa.array(moments, pa.timestamp("us")))
    table = pq.read_table(small.root / "goods.parquet")
    pq.write_table(table, small.root / "goods.parquet", use_deprecated_int96_timestamps=True)
    result = small.night(inputs__items__attributes=["day", "moment"], inputs__items__updated_at="moment")
    assert result["exit_code"] == 0, result["error"]
    known = {row["item_id"]: dict(row["attributes"]) for row in small.chain.table("catalog")}
    assert len(known) == 10
    assert known["1"] == {"day": "0001-01-01", "moment": "0001-01-01 00:00:00"}
    assert stage(result, "ingest")["notes"] == ["10 item rows have an implausible moment: they are always read"]
    assert known["2"] == {"day": "1900-01-01", "moment": "1900-01-01 00:00:00"}


def test_a_column_of_milliseconds_is_refused_by_name_and_read_with_the_unit_that_is_named(small: Shop):
    small.sales(at=[(START + n) * 1000 for n in range(SALES)])
    message, hint = error(small.night(split__method="global_time"), 3)
    assert "'at'" in message and "1735689600000 as seconds since 1970 is in the year 56971" in message
    assert hint == "set inputs.interactions.time_unit: ms"
    rows = small.taken(inputs__interactions__time_unit="ms")
    assert min(row["event_time"] for row in rows).isoformat()[:19] == "2025-01-01T00:00:00"


def test_a_column_that_means_1970_throughout_counts_something_else(small: Shop):
    small.sales(at=[20_250_101 + n for n in range(SALES)])
    message, hint = error(small.night(), 3)
    assert "20250101 as seconds since 1970 is in the year 1970" in message
    assert "'yyyyMMdd'" in hint and "inputs.interactions.derived" in hint


def test_a_time_of_change_in_another_unit_is_refused_and_a_missing_flag_is_counted(small: Shop):
    small.goods(changed=[START * 1000] * 10, cold=pa.array([True, None, *[False] * 8]))
    over = {"inputs__items__updated_at": "changed", "inputs__items__cold_column": "cold"}
    message, hint = error(small.night(**over), 3)
    assert message.startswith("inputs.items.updated_at: 10 of 10 values in 'changed'")
    assert hint == "set inputs.items.time_unit: ms"
    result = small.night(**over, inputs__items__time_unit="ms")
    assert stage(result, "ingest")["notes"] == ["1 item rows have no value of cold: they count as not cold"]


# Weights ---------------------------------------------------------------------------------------------------------


def test_a_missing_weight_is_refused_or_counts_what_the_settings_say_and_never_1_in_silence(small: Shop):
    small.sales(stars=pa.array([None, math.nan, -1.0, math.inf, *[5.0] * (SALES - 4)], from_pandas=False))
    rows = small.taken(inputs__interactions__weight="stars")
    assert sorted(row["weight"] for row in rows) == [-1.0, *[5.0] * (SALES - 4)]
    assert sorted(small.refused()) == [
        ("no_weight", "row 0 of sales.parquet"),
        ("no_weight", "row 1 of sales.parquet"),
        ("non_finite", "row 3 of sales.parquet: stars is Infinity"),
    ]
    over = {"inputs__interactions__weight": "stars", "inputs__interactions__missing_weight": 2.5}
    assert sorted(row["weight"] for row in small.taken(**over)) == [-1.0, 2.5, 2.5, *[5.0] * (SALES - 4)]
    record = json.loads((small.chain.workspace / "runs/latest/run_result.json").read_text())
    assert stage(record, "ingest")["notes"] == [
        "2 interactions have no stars: they weigh 2.5",
        "1 interactions weigh 0 or less: they are choices like all others",
    ]


def test_a_column_without_a_single_weight_or_split_is_not_the_column_meant(small: Shop):
    small.sales(stars=pa.array([None] * SALES, pa.float64()), part=["Train "] * SALES)
    message, hint = error(small.night(inputs__interactions__weight="stars"), 3)
    assert message.startswith("inputs.interactions.weight: 40 of 40 values in stars cannot be used, no_weight")
    assert "missing_weight" in hint
    message, hint = error(small.night(split={"method": "column", "column": "part"}), 3)
    assert "part is Train" in message
    derived = {"part_": "lower(trim(part))"}
    rows = small.taken(split={"method": "column", "column": "part_"}, inputs__interactions__derived=derived)
    assert {row["split"] for row in rows} == {"train"}


# The budget ------------------------------------------------------------------------------------------------------


def test_too_many_refused_rows_end_the_night_with_4_and_what_was_served_stays(small: Shop):
    small.taken()
    receipt = (small.chain.workspace / "receipts" / "ingest.json").read_bytes()
    small.sales(sku=[99 if n % 2 else 1 for n in range(SALES)])
    message, hint = error(small.night(), 4)
    assert message == (
        "too many rows of the interactions are refused, 20 of 40: unknown_item 20 (such as row 1 of sales.parquet)"
    )
    assert "ingest.max_refused_fraction" in hint
    assert (small.chain.workspace / "receipts" / "ingest.json").read_bytes() == receipt
    assert len(small.refused()) == 20
    assert small.night()["exit_code"] == 4
    assert len(small.refused()) == 20  # the same night again adds none
    result = small.night(ingest__max_refused_fraction=0.5)
    assert result["exit_code"] == 0
    (warning,) = stage(result, "ingest")["warnings"]
    assert warning.startswith("20 of 40 rows of the interactions are refused: unknown_item 20")
    assert stage(result, "ingest")["quarantined"] == {"unknown_item": 20}


def test_items_and_users_have_the_same_budget(small: Shop):
    small.goods(name=["x"] * 10)
    pq.write_table(pa.table({"sku": [1, 1, 2, None]}), small.root / "goods.parquet")
    assert "too many rows of the items are refused, 2 of 4" in error(small.night(), 4)[0]
    small.goods()
    pq.write_table(pa.table({"id": ["c0", "c0", "c1"]}), small.root / "people.parquet")
    users = {"path": str(small.root / "people.parquet"), "id": "id"}
    assert "too many rows of the users are refused, 1 of 3" in error(small.night(inputs__users=users), 4)[0]
    assert small.night(inputs__users=users, ingest__min_refused_count=1)["exit_code"] == 0


# Ids -------------------------------------------------------------------------------------------------------------


def test_ids_of_which_none_matches_are_shown_from_both_tables_and_the_setting_named_mends_them(small: Shop):
    small.sales(sku=[f"{1 + n % 10}.0" for n in range(SALES)])
    message, hint = error(small.night(), 3)
    assert "none of the 40 rows of the interactions" in message
    assert "inputs.interactions.item ('sku') holds '" in message and ".0' (a string)" in message
    assert "inputs.items.id ('sku')" in message and "(an integer)" in message
    expression = "try_cast(try_cast(sku as double) as bigint)"
    derived = f'inputs.interactions.derived: {{item_key: "{expression}"}}'
    assert hint == f"set {derived} and inputs.interactions.item: item_key"
    over = {"inputs__interactions__derived": {"item_key": expression}, "inputs__interactions__item": "item_key"}
    assert {row["item_id"] for row in small.taken(**over)} == {str(n) for n in range(1, 11)}


def test_some_ids_written_otherwise_are_a_warning_with_the_same_words(small: Shop):
    small.sales(sku=[f"{1 + n % 10}" + (" " if n < 6 else "") for n in range(SALES)])
    (warning,) = stage(small.night(), "ingest")["warnings"]
    assert warning.startswith("6 of 40 rows of the interactions are refused: unknown_item 6")
    assert 'set inputs.interactions.derived: {item_key: "trim(sku)"}' in warning


def test_users_and_blocks_that_name_nobody_are_refused_and_their_ids_can_be_derived(small: Shop):
    pq.write_table(pa.table({"id": [f"C{n}" for n in range(4)]}), small.root / "people.parquet")
    users = {"path": str(small.root / "people.parquet"), "id": "id"}
    message, hint = error(small.night(inputs__users=users), 3)
    assert "inputs.interactions.user ('customer') holds ids like 'a9'" in message
    assert "ids like 'A9'" in message and "upper(customer)" in hint
    users |= {"derived": {"key": "lower(id)"}, "id": "key"}
    pq.write_table(pa.table({"who": ["C1"], "what": [3.0]}), small.root / "blocks.parquet")
    derived = {"item": "cast(what as int)", "user": "who"}
    blocks = {"path": str(small.root / "blocks.parquet"), "user": "user", "item": "item", "derived": derived}
    assert "lower((who))" in error(small.night(inputs__users=users, inputs__blocks=blocks), 3)[1]
    derived["user"] = "lower(who)"
    assert small.night(inputs__users=users, inputs__blocks=blocks)["exit_code"] == 0
    assert small.chain.table("blocks") == [{"user_id": "c1", "item_id": "3"}]


def test_columns_of_another_type_are_refused_until_a_cast_derives_them(small: Shop):
    small.sales(sku=[1.0] * SALES, stars=["5"] * SALES, liked=[True] * SALES)
    over: dict[str, Any] = {"inputs__interactions__weight": "stars"}
    for column, setting, made in (
        ("sku", "item", "try_cast(sku as bigint)"),
        ("stars", "weight", "try_cast(stars as double)"),
        ("liked", "weight", "cast(liked as int)"),
    ):
        over[f"inputs__interactions__{setting}"] = column
        assert f"column {column!r} should be" in error(small.night(**over), 3)[0]
        over[f"inputs__interactions__{setting}"] = f"{column}_"
        derived = over.setdefault("inputs__interactions__derived", {})
        derived[f"{column}_"] = made
    rows = small.taken(**over)
    assert [row["weight"] for row in rows] == [1.0] * SALES


# The demo shop ---------------------------------------------------------------------------------------------------


def test_the_demo_is_made_only_where_items_and_interactions_are_its_own(small: Shop):
    own = load_settings([small.conf], ["inputs.root=" + str(small.root)])
    readme = load_settings([small.conf], ["inputs.items.path=/data/items", "inputs.interactions.path=/data/purchases"])
    half = load_settings([], ["inputs.items.path=/data/items"])
    names = [[stage.name for stage in pipeline.stages(settings)] for settings in (own, readme, half, load_settings())]
    assert ["demo" in stages for stages in names] == [False, False, False, True]
    result = small.chain.run(lambda settings: pipeline.stages(settings)[:1], conf=[small.conf])
    assert [entry["name"] for entry in result["stages"]] == ["ingest"]
    assert not (small.chain.workspace / "demo").exists()
