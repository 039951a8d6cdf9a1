"""Tables as snapshots: a reader sees a commit whole or not at all, one of two writers wins, damage has a name."""

from __future__ import annotations

import datetime
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.errors import ReconciliationError, TableError, TryAgainError
from crossweave.storage.location import Location
from crossweave.tables.schema import FEATURES, ITEM_INDEX, SCHEMAS, schema_difference, spark_schema
from crossweave.tables.snapshot import Snapshot
from crossweave.tables.store import TableStore

NAME = "item_index"

RACER = """
import sys
from pathlib import Path
from crossweave.errors import TryAgainError
from crossweave.tables.store import TableStore

store, base = TableStore(Path(sys.argv[1])), None if sys.argv[2] == "None" else int(sys.argv[2])
print("ready", flush=True)
for name in sys.stdin.readline().split():
    try:
        store.commit(name, [store.folder(name) / "data" / sys.argv[3] / "part-0.parquet"], "append", base=base)
        print("won", flush=True)
    except TryAgainError:
        print("lost", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path / "tables")


def put(store: TableStore, *ids: str, name: str = NAME) -> Path:
    """Write a data file that is not committed yet."""
    folder = store.fresh_folder(name).local
    folder.mkdir(parents=True)
    path = folder / "part-0.parquet"
    pq.write_table(pa.table([list(ids), pa.array(range(len(ids)), pa.int32())], schema=ITEM_INDEX), path)
    return path


def ids(snapshot: Snapshot | None) -> list[str]:
    assert snapshot is not None
    return sorted(i for path in snapshot.places for i in pq.read_table(path)["item_id"].to_pylist())


def log_entry(store: TableStore, version: int, name: str = NAME) -> Path:
    return store.folder(name).local / "_delta_log" / f"{version:020}.json"


def test_a_table_that_was_never_written_does_not_exist(store: TableStore) -> None:
    assert store.snapshot(NAME) is None
    assert not store.has_committed(NAME, "key")
    with pytest.raises(TableError, match="table item_index does not exist below"):
        store.required(NAME)


def test_a_commit_makes_a_snapshot_of_its_files_rows_and_properties(store: TableStore) -> None:
    file = put(store, "a", "b", "c")
    snapshot = store.commit(NAME, [file], "replace", base=None, properties={"dim": "4"})
    assert (snapshot.name, snapshot.version, snapshot.rows) == (NAME, 0, 3)
    assert snapshot.places == [Location.of(file)]
    assert snapshot.properties == {"dim": "4"}
    assert store.snapshot(NAME) == snapshot
    assert snapshot.files[0].size == file.stat().st_size


def test_append_adds_rows_and_replace_drops_the_old_ones(store: TableStore) -> None:
    store.commit(NAME, [put(store, "a"), put(store, "b")], "append", base=None)
    assert ids(store.commit(NAME, [put(store, "c")], "append", base=0)) == ["a", "b", "c"]
    assert ids(store.commit(NAME, [put(store, "d")], "replace", base=1)) == ["d"]


def test_every_version_stays_readable_as_it_was(store: TableStore) -> None:
    store.commit(NAME, [put(store, "a")], "replace", base=None)
    store.commit(NAME, [put(store, "b")], "append", base=0)
    store.commit(NAME, [put(store, "c")], "replace", base=1)
    assert [ids(store.snapshot(NAME, version)) for version in (0, 1, 2, None)] == [["a"], ["a", "b"], ["c"], ["c"]]


def test_every_version_has_the_properties_that_the_table_was_created_with(store: TableStore) -> None:
    store.commit(NAME, [put(store, "a")], "replace", base=None, properties={"dim": "4"})
    store.commit(NAME, [put(store, "b")], "append", base=0)
    assert store.required(NAME, 1).properties == {"dim": "4"}
    assert store.required(NAME, 0).properties == {"dim": "4"}


def test_a_version_that_never_was_is_refused(store: TableStore) -> None:
    store.commit(NAME, [put(store, "a")], "replace", base=None)
    with pytest.raises(TableError, match="item_index"):
        store.snapshot(NAME, 5)


def test_files_that_were_never_committed_are_invisible(store: TableStore) -> None:
    put(store, "ghost")
    assert store.snapshot(NAME) is None
    store.commit(NAME, [put(store, "a")], "replace", base=None)
    put(store, "ghost")
    assert ids(store.snapshot(NAME)) == ["a"]


def test_a_table_may_be_empty_and_may_become_empty(store: TableStore) -> None:
    assert store.commit(NAME, [], "replace", base=None).rows == 0
    store.commit(NAME, [put(store, "a")], "append", base=0)
    assert store.commit(NAME, [put(store)], "replace", base=1).files == ()  # a file without rows adds nothing


def test_a_writer_that_started_from_an_older_version_is_told_to_try_again(store: TableStore) -> None:
    store.commit(NAME, [put(store, "a")], "replace", base=None)
    store.commit(NAME, [put(store, "b")], "append", base=0)
    for base in (0, None, 7):
        with pytest.raises(TryAgainError) as caught:
            store.commit(NAME, [put(store, "c")], "append", base=base)
        assert caught.value.message == (
            f"table item_index was committed to by another run (this run started from version {base}, found 1)"
        )
    assert ids(store.snapshot(NAME)) == ["a", "b"]


def test_a_writer_that_believes_in_a_table_that_is_gone_is_told_to_try_again(store: TableStore) -> None:
    with pytest.raises(TryAgainError):
        store.commit(NAME, [put(store, "a")], "append", base=3)
    assert store.snapshot(NAME) is None


class MeetingStore(TableStore):
    """Two writers that both open the table before either commits: the check on the base cannot tell them apart."""

    meeting = threading.Barrier(2)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._met = False

    def _open(self, name, version=None):  # type: ignore[no-untyped-def]
        table = super()._open(name, version)
        if not self._met:
            self._met = True
            self.meeting.wait(30)
        return table


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("base", [None, 0])
def test_of_two_writers_that_saw_the_same_version_exactly_one_wins(
    store: TableStore, mode: str, base: int | None
) -> None:
    if base is not None:
        store.commit(NAME, [put(store, "first")], "append", base=None)
    outcome: dict[str, object] = {}
    files = {who: put(store, who) for who in ("anna", "ben")}

    def race(who: str) -> None:
        try:
            outcome[who] = MeetingStore(store.root).commit(NAME, [files[who]], mode, base=base)  # type: ignore[arg-type]
        except Exception as error:
            outcome[who] = error

    threads = [threading.Thread(target=race, args=(who,)) for who in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    winners = [who for who, result in outcome.items() if isinstance(result, Snapshot)]
    losers = [result for result in outcome.values() if not isinstance(result, Snapshot)]
    assert len(winners) == 1
    assert [type(error) for error in losers] == [TryAgainError]
    kept = ["first"] if base is not None and mode == "append" else []
    assert ids(store.snapshot(NAME)) == sorted([*kept, *winners])


@pytest.mark.parametrize("base", [None, 0])
def test_of_two_processes_that_race_over_ten_tables_exactly_one_wins_each(store: TableStore, base: int | None) -> None:
    names = [f"features/race-{i}" for i in range(10)]
    rows = pa.table([["h"], pa.array([b"12"], pa.binary()), pa.array([0], pa.date32()), [None]], schema=FEATURES)
    for name in names:
        for who in ("first", "anna", "ben"):
            path = store.folder(name).local / "data" / who / "part-0.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(rows, path)
        if base is not None:
            store.commit(name, [store.folder(name) / "data" / "first" / "part-0.parquet"], "append", base=None)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(store.root), str(base), who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in ("anna", "ben")
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(" ".join(names) + "\n")
        racer.stdin.flush()
    results = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [sorted(pair) for pair in zip(*results, strict=True)] == [["lost", "won"]] * 10
    for name, anna in zip(names, results[0], strict=True):
        snapshot = store.required(name)
        assert snapshot.version == (0 if base is None else 1)
        added = {place.parent.name for place in snapshot.places} - {"first"}
        assert added == {"anna" if anna == "won" else "ben"}


def test_a_key_is_remembered_with_the_commit_that_was_made_under_it(store: TableStore) -> None:
    store.commit(NAME, [put(store, "a")], "append", base=None)
    store.commit(NAME, [put(store, "b")], "append", base=0, once="night 1")
    store.commit(NAME, [put(store, "c")], "append", base=1)
    assert store.has_committed(NAME, "night 1")
    assert not store.has_committed(NAME, "night 2")


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_a_file_that_is_damaged_is_refused_by_name_before_the_commit(store: TableStore, damage: str) -> None:
    store.commit(NAME, [put(store, "a")], "append", base=None)
    good, bad = put(store, "b"), put(store, "c")
    raw = bad.read_bytes()
    if damage == "missing":
        bad.unlink()
    else:
        bad.write_bytes({"empty": b"", "truncated": raw[:-20], "text": b"item_id\nc\n"}[damage])
    with pytest.raises(TableError) as caught:
        store.commit(NAME, [good, bad], "append", base=0)
    assert str(bad) in caught.value.message and "item_index" in caught.value.message
    assert (store.required(NAME).version, ids(store.snapshot(NAME))) == (0, ["a"])


@pytest.mark.parametrize(
    ("columns", "difference"),
    [
        ({"item_id": ["a"]}, "expected the columns item_id, item_index, found item_id"),
        (
            {"item_index": pa.array([0], pa.int32()), "item_id": ["a"]},
            "expected the columns item_id, item_index, found",
        ),
        ({"item_id": ["a"], "item_index": pa.array([0], pa.int64())}, "column item_index should be int32, is int64"),
        ({"item_id": [b"a"], "item_index": pa.array([0], pa.int32())}, "column item_id should be string, is binary"),
    ],
)
def test_a_file_of_another_schema_is_refused_by_name_before_the_commit(
    store: TableStore, columns: dict, difference: str
) -> None:
    path = put(store, "a")
    pq.write_table(pa.table(columns), path)
    with pytest.raises(TableError) as caught:
        store.commit(NAME, [path], "append", base=None)
    assert caught.value.message.startswith(f"{path} does not fit table item_index: {difference}")
    assert store.snapshot(NAME) is None


def test_rows_that_differ_from_what_was_expected_are_not_committed(store: TableStore) -> None:
    files = [put(store, "a", "b"), put(store, "c")]
    for expected in (2, 4):
        with pytest.raises(ReconciliationError, match=f"3 rows were written, {expected} were expected"):
            store.commit(NAME, files, "append", base=None, expected_rows=expected)
    assert store.snapshot(NAME) is None
    assert store.commit(NAME, files, "append", base=None, expected_rows=3).rows == 3


def test_a_data_file_that_is_gone_is_named_by_the_reader(store: TableStore) -> None:
    lost = put(store, "a")
    store.commit(NAME, [lost, put(store, "b")], "append", base=None)
    lost.unlink()
    with pytest.raises(TableError) as caught:
        store.snapshot(NAME)
    assert caught.value.message == f"data file {lost} of table item_index is missing"


def test_a_data_file_that_was_cut_or_replaced_is_named_by_the_reader(store: TableStore) -> None:
    file = put(store, "a", "b")
    store.commit(NAME, [file], "append", base=None)
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(TableError) as caught:
        store.snapshot(NAME)
    assert caught.value.message == f"data file {file} of table item_index has {size - 7} bytes instead of {size}"
    pq.write_table(pa.table({"other": ["schema"] * 50}), file)
    with pytest.raises(TableError, match=f"{file} of table item_index has"):
        store.snapshot(NAME)


@pytest.mark.parametrize("damage", ["half", "zeros", "text", "gone"])
def test_a_torn_log_entry_is_refused_by_the_name_of_its_table(store: TableStore, damage: str) -> None:
    store.commit(NAME, [put(store, "a")], "append", base=None)
    store.commit(NAME, [put(store, "b")], "append", base=0)
    entry = log_entry(store, 0 if damage == "gone" else 1)
    raw = entry.read_bytes()
    if damage == "gone":
        entry.unlink()
    else:
        entry.write_bytes({"half": raw[: len(raw) // 2], "zeros": bytes(len(raw)), "text": b"hello"}[damage])
    for read in (lambda: store.snapshot(NAME), lambda: store.has_committed(NAME, "key")):
        with pytest.raises(TableError) as caught:
            read()
        assert f"the log of table item_index at {store.folder(NAME)} is not readable" in caught.value.message


@pytest.mark.parametrize("kept_lines", [0, 1, 2])
def test_a_log_entry_torn_between_two_lines_is_refused_by_the_name_of_its_table(
    store: TableStore, kept_lines: int
) -> None:
    store.commit(NAME, [put(store, "a")], "append", base=None)
    store.commit(NAME, [put(store, "b"), put(store, "c")], "append", base=0)
    entry = log_entry(store, 1)
    lines = entry.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4  # note, two files, transaction
    entry.write_bytes(b"".join(lines[:kept_lines]))
    with pytest.raises(TableError, match="item_index"):
        store.snapshot(NAME)


def test_a_schema_differs_by_meaning_not_by_the_names_inside_lists_or_the_time_zone() -> None:
    declared = pa.schema([("t", pa.timestamp("us", "UTC")), ("v", pa.binary()), ("l", pa.list_(pa.string()))])
    found = pa.schema(
        [("t", pa.timestamp("ns")), ("v", pa.binary(8)), ("l", pa.list_(pa.field("element", pa.string())))]
    )
    assert schema_difference(declared, found) == ""
    other = found.set(2, pa.field("l", pa.list_(pa.int32())))
    assert schema_difference(declared, other) == "column l should be list<string>, is list<int32>"


def index_frame(spark: SparkSession, *ids: str) -> DataFrame:
    return spark.createDataFrame([(i, position) for position, i in enumerate(ids)], "item_id string, item_index int")


def test_a_frame_is_written_committed_and_read_back_by_version(spark: SparkSession, store: TableStore) -> None:
    extra = index_frame(spark, "a", "b").withColumn("not_of_the_table", F.lit(1))
    assert store.write(extra, NAME, "replace", base=None, properties={"k": "v"}).rows == 2
    assert store.write(index_frame(spark, "c"), NAME, "append", base=0).version == 1
    read = {v: sorted(r["item_id"] for r in store.read(spark, NAME, v).collect()) for v in (0, 1, None)}
    assert read == {0: ["a", "b"], 1: ["a", "b", "c"], None: ["a", "b", "c"]}
    assert store.read(spark, NAME).schema == spark_schema(NAME)


def test_a_table_never_written_reads_as_empty_with_its_schema(spark: SparkSession, store: TableStore) -> None:
    frame = store.read(spark, "catalog")
    assert (frame.count(), frame.schema) == (0, spark_schema("catalog"))


def test_every_declared_table_goes_through_spark_and_back(spark: SparkSession, store: TableStore) -> None:
    for name in SCHEMAS:
        schema = spark_schema(name)
        one_row = spark.createDataFrame([tuple(None for _ in schema)], schema)
        assert store.write(one_row, name, "replace", base=None).rows == 1
        assert store.read(spark, name).collect() == one_row.collect()


def test_under_one_key_a_frame_is_written_once(spark: SparkSession, store: TableStore) -> None:
    store.write(index_frame(spark, "a"), NAME, "append", base=None, once="night 1")
    for _ in range(2):  # the same night again
        snapshot = store.write(index_frame(spark, "a"), NAME, "append", base=0, once="night 1")
        assert (snapshot.version, ids(snapshot)) == (0, ["a"])
    assert ids(store.write(index_frame(spark, "b"), NAME, "append", base=0, once="night 2")) == ["a", "b"]


def test_a_frame_that_dies_half_way_leaves_nothing_to_see(spark: SparkSession, store: TableStore) -> None:
    store.write(index_frame(spark, "a"), NAME, "append", base=None)
    dies = index_frame(spark, "b", "c").withColumn(
        "item_index", F.when(F.col("item_id") == "c", F.raise_error("worker died")).otherwise(F.col("item_index"))
    )
    with pytest.raises(Exception, match="worker died"):
        store.write(dies.withColumn("item_index", F.col("item_index").cast("int")), NAME, "append", base=0)
    assert (store.required(NAME).version, ids(store.snapshot(NAME))) == (0, ["a"])


def test_a_snapshot_from_before_a_column_reads_with_nulls_and_the_next_version_has_the_column(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = TableStore(tmp_path)
    now = SCHEMAS["recommendations"]
    monkeypatch.setitem(SCHEMAS, "recommendations", pa.schema(list(now)[:6]))  # as an earlier release declared it
    row = (datetime.date(2026, 1, 1), "u", 1, "i", 0.5, {"text": 0.5})
    store.write(spark.createDataFrame([row], spark_schema("recommendations")), "recommendations", "replace", base=None)
    monkeypatch.setitem(SCHEMAS, "recommendations", now)
    old = store.read(spark, "recommendations")
    assert [(r["user_id"], r["because"]) for r in old.collect()] == [("u", None)]
    store.write(old, "recommendations", "replace", base=0)
    assert DeltaTable(str(tmp_path / "recommendations")).schema().to_arrow().names == now.names
    assert [store.read(spark, "recommendations", version).count() for version in (0, 1)] == [1, 1]
