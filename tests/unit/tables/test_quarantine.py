"""The quarantine table: which run refused a row, and tables from before that was kept."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from crossweave.errors import TableError
from crossweave.tables import store as stores
from crossweave.tables.quarantine import grouped, last_run
from crossweave.tables.schema import QUARANTINE, spark_schema
from crossweave.tables.store import TableStore

OLD = QUARANTINE.remove(QUARANTINE.get_field_index("run_id"))


def rows(spark: SparkSession, *given: tuple[str, str, str, str, str | None]) -> DataFrame:
    """Give stage, item, reason, detail and run."""
    keys = ("stage", "item_id", "reason", "detail", "run_id")
    made = [
        tuple({"entity": "item", **dict(zip(keys, row, strict=True))}.get(n) for n in QUARANTINE.names) for row in given
    ]
    return spark.createDataFrame(made, spark_schema("quarantine"))


def old_table(folder: Path, schema: pa.Schema = OLD) -> TableStore:
    """Write the table as it was before the column was added, with one row."""
    store = TableStore(folder / "tables")
    file = store.fresh_folder("quarantine").local / "part-0.parquet"
    file.parent.mkdir(parents=True)
    values = [["before"] if name in ("item_id", "added") else [None] for name in schema.names]
    pq.write_table(pa.table([pa.array(v, t) for v, t in zip(values, schema.types, strict=True)], schema=schema), file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "table_schema", lambda name: schema)
        store.commit("quarantine", [file], "append", base=None, once="first")
    return store


def test_what_some_runs_refused_is_counted_beside_what_all_did_with_a_few_samples(spark: SparkSession) -> None:
    table = rows(
        spark,
        *[("embed", f"i{n}", "torn", "d", "run2") for n in range(9)],
        ("embed", "i0", "torn", "d", "run1"),
        ("ingest", "x", "null_id", "row 1", "run1"),
        ("ingest", "y", "null_id", "row 2", None),
        ("ingest", "z", "duplicate_id", "row 3", "run2"),
    )
    found = {(r["stage"], r["reason"]): r for r in grouped(table, ["run2"], 3)}
    assert {key: (r["count"], r["ever"]) for key, r in found.items()} == {
        ("embed", "torn"): (9, 10), ("ingest", "null_id"): (0, 2), ("ingest", "duplicate_id"): (1, 1),
    }  # fmt: skip
    assert [s["item_id"] for s in found["embed", "torn"]["samples"]] == ["i0", "i1", "i2"]
    assert found["ingest", "null_id"]["samples"] is None
    assert (last_run(table, "ingest"), last_run(table, "score")) == ("run2", None)


def test_a_table_from_before_the_column_is_readable_and_written_anew_once_by_the_next_append(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = old_table(tmp_path)
    assert [row["run_id"] for row in store.read(spark, "quarantine").collect()] == [None]
    written = store.write(
        rows(spark, ("ingest", "x", "null_id", "d", "run2")), "quarantine", "append", base=0, once="k"
    )
    assert (written.version, written.rows) == (2, 2)
    assert [f.name for f in DeltaTable(str(store.folder("quarantine"))).schema().fields] == QUARANTINE.names
    assert DeltaTable(str(store.folder("quarantine"))).to_pyarrow_table().num_rows == 2
    found = {row["item_id"]: row["run_id"] for row in store.read(spark, "quarantine").collect()}
    assert found == {"before": None, "x": "run2"}
    assert store.read(spark, "quarantine", 0).count() == 1
    assert store.has_committed("quarantine", "first")
    again = store.write(rows(spark, ("ingest", "y", "null_id", "d", "run3")), "quarantine", "append", base=2)
    assert (again.version, again.rows) == (3, 3)


def test_a_table_with_columns_that_this_version_does_not_know_is_refused_by_name(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = old_table(tmp_path, OLD.append(pa.field("added", pa.string())))
    with pytest.raises(TableError, match=r"table quarantine at .* has the columns .*added, not those of this version"):
        store.write(rows(spark, ("ingest", "x", "null_id", "d", "run2")), "quarantine", "append", base=0)
