"""Every split method from the settings to the tables, and the check that nothing held out is known to anybody."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Chain, Night, described, stage

from crossweave.errors import LeakageError
from crossweave.feeding.leakage import check_tensors
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.runtime.stage import Stage
from crossweave.stages.embed import EMBED
from crossweave.stages.evaluate import EVALUATE
from crossweave.stages.ingest import INGEST
from crossweave.stages.score import SCORE
from crossweave.stages.tensors import TENSORS
from crossweave.tables.leakage import held_out_pairs
from crossweave.tables.receipts import Receipts
from crossweave.tables.store import TableStore

pytestmark = pytest.mark.slow

DATA = [INGEST, EMBED, TENSORS]
PARTS = ("train", "valid", "test")
Row = dict[str, Any]


@pytest.fixture
def copy(night: Night, tmp_path: Path) -> Chain:
    return night.chain.copy(tmp_path / "ws")


def by_user(rows: list[Row]) -> dict[str, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[row["user_id"]].append(row)
    return found


def leaves_last_out(rows: list[Row], _: Row) -> None:
    for own in by_user(rows).values():
        last = {row["item_id"]: max(r["event_time"] for r in own if r["item_id"] == row["item_id"]) for row in own}
        ordered = sorted(last, key=lambda item: (last[item], item))
        wanted = dict.fromkeys(ordered, "train")
        if len(ordered) >= 3:
            wanted |= {ordered[-2]: "valid", ordered[-1]: "test"}
        assert {row["item_id"]: row["split"] for row in own} == wanted


def cuts_by_time(rows: list[Row], facts: Row) -> None:
    pairs = defaultdict(list)
    for row in rows:
        pairs[row["user_id"], row["item_id"]].append(row["event_time"].isoformat())
    for row in rows:
        last = max(pairs[row["user_id"], row["item_id"]])
        later = "test" if last >= facts["test_from"] else "valid" if last >= facts["valid_from"] else "train"
        assert row["split"] == later
    shares = [len({(r["user_id"], r["item_id"]) for r in rows if r["split"] == part}) / len(pairs) for part in PARTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def cuts_where_told(rows: list[Row], facts: Row) -> None:
    assert (facts["valid_from"], facts["test_from"]) == ("2025-12-01T00:00:00+00:00", "2025-12-20T00:00:00+00:00")
    assert max(r["event_time"] for r in rows if r["split"] == "train").isoformat() < facts["valid_from"]


def withholds_users(rows: list[Row], _: Row) -> None:
    kinds = {user: {row["split"] for row in own} for user, own in by_user(rows).items()}
    cold = {user for user, found in kinds.items() if found == {"test"}}
    assert 0 < len(cold) < len(kinds) / 2
    assert all("test" not in found for user, found in kinds.items() if user not in cold)


@pytest.mark.parametrize(
    ("method", "more", "holds"),
    [
        ("leave_last_out", {}, leaves_last_out),
        ("global_time", {}, cuts_by_time),
        ("global_time", {"valid_from": "2025-12-01", "test_from": "2025-12-20T00:00:00Z"}, cuts_where_told),
        ("cold_users", {"test_fraction": 0.2}, withholds_users),
    ],
)
def test_each_method_parts_as_it_says_and_the_record_has_rule_cuts_and_counts(
    night: Night, copy: Chain, method: str, more: Row, holds: Callable[[list[Row], Row], None]
):
    pairs = {f"split__{name}": value for name, value in ({"method": method} | more).items()}
    result = copy.run(DATA, **pairs)
    assert result["exit_code"] == 0, result["error"]
    rows, facts = copy.table("interactions"), stage(result, "ingest")["facts"]["split"]
    assert len(rows) == len(night.chain.table("interactions"))
    holds(rows, facts)
    assert (facts["method"], facts["protocol"], facts["seed"]) == (method, "warm", 17)
    for part in PARTS:
        own = [row for row in rows if row["split"] == part]
        assert facts["parts"][part] == {"rows": len(own), "users": len({row["user_id"] for row in own})}
    assert (result["metrics"]["tensors.leakage.found"], result["metrics"]["tensors.leakage.pairs"] > 0) == (0, True)
    again = copy.run(DATA, **pairs)
    assert (again["status"], stage(again, "ingest")["facts"]["split"]) == ("noop", facts)


def test_cold_users_are_served_and_judged_without_any_history(copy: Chain):
    result = copy.run(split__method="cold_users", split__test_fraction=0.2)
    assert result["exit_code"] == 0, result["error"]
    rows = copy.table("interactions")
    cold = {row["user_id"] for row in rows if row["split"] == "test"}
    lists = [row for row in copy.table("recommendations") if row["user_id"] in cold]
    assert {row["user_id"] for row in lists} == cold
    assert not any(row["because"] for row in lists)
    metrics = result["metrics"]
    assert (metrics["evaluate.users.rows_out"], metrics["score.leakage.found"]) == (len(cold), 0)
    assert 0 < metrics["evaluate.ndcg@20"] <= 1


def test_items_are_drawn_as_cold_where_no_column_names_them(copy: Chain):
    words = {"split__cold_items": 0.2, "inputs__items__cold_column": None, "split__protocol": "cold"}
    result = copy.run(DATA, **words)
    assert result["exit_code"] == 0, result["error"]
    cold = {row["item_id"] for row in copy.table("catalog") if row["cold"]}
    assert 0 < len(cold) < 0.4 * len(copy.table("catalog"))
    assert stage(result, "ingest")["facts"]["split"]["cold_items"] == len(cold)
    place = {row["item_id"]: row["item_index"] for row in copy.table("item_index")}
    assert not {place[item] for item in cold} & {item for _, item in written_pairs(manifest_of(copy))}
    assert result["metrics"]["tensors.leakage.found"] == 0


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ({"split__method": "leave_last_out", "inputs__interactions__time": None}, "needs inputs.interactions.time"),
        ({"split__cold_items": 0.1}, "inputs.items.cold_column names them: give one"),
        ({"split__method": "global_time", "split__test_from": "2025-12-20"}, "give both times, or neither"),
    ],
)
def test_settings_that_cannot_part_are_refused_before_anything_starts(new_chain: Chain, pairs: Row, words: str):
    assert new_chain.attempt(DATA, **pairs) == 2
    assert words in " ".join(new_chain.said)


def test_times_beyond_the_data_are_refused_with_the_counts(copy: Chain):
    late = {"split__valid_from": "2031-01-01", "split__test_from": "2031-01-02", "split__method": "global_time"}
    result = copy.run(DATA[:1], **late)
    assert (result["exit_code"], result["error"]["type"]) == (3, "InputContractError")
    assert "leaves nothing in test" in result["error"]["message"]


# Leaks, planted ------------------------------------------------------------------------------------------------


def manifest_of(chain: Chain) -> Manifest:
    folder = Receipts(chain.workspace).required("tensors").details.folder
    found = load_manifest(chain.workspace / "tensors" / folder)
    assert found is not None
    return found


def written_pairs(manifest: Manifest) -> set[tuple[int, int]]:
    rows = [row for path in manifest.places("sequences") for row in pq.read_table(path).to_pylist()]
    return {(row["user_index"], item) for row in rows for item in np.frombuffer(row["items"], "<i4").tolist()}


def held_out_of(chain: Chain) -> set[tuple[str, int]]:
    place = {row["item_id"]: row["item_index"] for row in chain.table("item_index")}
    return {(r["user_id"], place[r["item_id"]]) for r in chain.table("interactions") if r["split"] == "test"}


def rewrite(manifest: Manifest, path: Path, rows: list[Row], schema: pa.Schema) -> None:
    """Put other rows in a file's place, and seal the set as if they had been written."""
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    path.with_name(f".{path.name}.crc").unlink()  # Hadoop's checksum is of the file that was there
    files = {f"{name[:-1]}_files": described(manifest.folder / name) for name in ("items", "sequences")}
    dataclasses.replace(manifest, **files).save()


def plant(manifest: Manifest, user: int, item: int, column: str = "items") -> None:
    """Append an item to the first sequence of a user, as a careless writer would."""
    for path in (place.local for place in manifest.places("sequences")):
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            if row["user_index"] == user:
                row[column] += np.int32(item).tobytes()
                rewrite(manifest, path, rows, table.schema)
                return
    raise AssertionError(f"no sequence of user {user}")


def check(chain: Chain, spark: Any) -> None:
    store = TableStore(chain.workspace / "tables")
    read = lambda name: store.read(spark, name)  # noqa: E731
    held_out = held_out_pairs(read("history"), read("item_index"), None)
    check_tensors(spark, manifest_of(chain), read("user_index"), held_out)


@pytest.mark.parametrize("column", ["items", "held_out"])
def test_a_test_row_among_the_tensors_is_found_and_told_by_numbers(copy: Chain, spark, column: str):
    check(copy, spark)
    number = {row["user_id"]: row["user_index"] for row in copy.table("user_index")}
    user, item = next((number[user], item) for user, item in sorted(held_out_of(copy)) if user in number)
    plant(manifest_of(copy), user, item, column)
    with pytest.raises(LeakageError, match=rf"found 1 of .*, such as item number {item} of user number {user}$"):
        check(copy, spark)


def test_popularity_that_counts_more_than_the_sequences_is_found(copy: Chain, spark):
    manifest = manifest_of(copy)
    path = manifest.places("items")[0].local
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[3]["popularity"] += 1
    rewrite(manifest, path, rows, table.schema)
    with pytest.raises(LeakageError, match=f"popularity of 1 items, such as item number {rows[3]['item_index']},"):
        check(copy, spark)


@pytest.mark.parametrize("work", [TENSORS, SCORE], ids=lambda work: work.name)
def test_a_pair_that_lies_in_two_splits_stops_tensors_and_score_and_nothing_is_published(
    copy: Chain, spark, work: Stage[Any]
):
    store, receipts = TableStore(copy.workspace / "tables"), Receipts(copy.workspace)
    frame, ingested = store.read(spark, "history"), receipts.required("ingest")
    trained = frame.where("split = 'train'").orderBy("user_id", "item_id").limit(1).replace("train", "test", "split")
    head = store.snapshot("history")
    assert head is not None
    version = store.write(frame.unionByName(trained), "history", "replace", base=head.version).version
    receipts.publish(dataclasses.replace(ingested, writes=ingested.writes | {"history": version}))
    before = receipts.required(work.name)
    result = copy.run([work])
    assert (result["exit_code"], result["error"]["type"]) == (4, "LeakageError")
    assert "found 1 of" in result["error"]["message"]
    assert receipts.required(work.name) == before


def test_lists_made_with_test_rows_are_served_but_not_judged(copy: Chain):
    result = copy.run([SCORE], score__history_splits=list(PARTS))
    assert (result["exit_code"], result["metrics"]["score.leakage.found"]) == (0, len(held_out_of(copy)))
    judged = copy.run([EVALUATE], score__history_splits=list(PARTS))
    assert (judged["exit_code"], judged["error"]["type"]) == (4, "LeakageError")
    assert f"{len(held_out_of(copy))} (user, item) pairs" in judged["error"]["message"]


def test_interactions_that_were_parted_anew_cannot_judge_the_lists_of_before(copy: Chain):
    assert copy.run(DATA[:1], split__method="leave_last_out")["exit_code"] == 0
    judged = copy.run([EVALUATE], split__method="leave_last_out")
    assert (judged["exit_code"], judged["error"]["type"]) == (4, "LeakageError")
    assert "of the last score stage" in judged["error"]["message"]
    assert not any(row["user_id"] in json.dumps(judged) for row in copy.table("users"))
    scored = copy.run([SCORE], split__method="leave_last_out")
    assert (scored["exit_code"], scored["metrics"]["score.leakage.found"]) == (0, 0)
    judged = copy.run([EVALUATE], split__method="leave_last_out")
    assert "the sequence tensors: expected no" in judged["error"]["message"]
