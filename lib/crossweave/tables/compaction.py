"""Rewrites a table of very many files as a few large ones; years of nightly appends cost every reader time."""

from __future__ import annotations

from pyspark.sql import SparkSession

from crossweave.errors import ReconciliationError
from crossweave.tables.store import TableStore

LARGE_FILE = 128 << 20  # bytes of a compacted file


def compact(spark: SparkSession, store: TableStore, name: str, most_files: int, key: str) -> None:
    """Commit a version with the same rows in large files, where the table has more than `most_files`.

    Rows are dealt to the files by the column `key`. A table whose large files alone are more than half as many is
    left as it is.
    """
    head = store.required(name)
    wanted = max(1, round(sum(file.size for file in head.files) / LARGE_FILE))
    if len(head.files) <= max(most_files, 2 * wanted):
        return
    rows = store.read(spark, name, head.version).repartition(wanted, key)
    written = store.write(rows, name, "replace", base=head.version)
    if written.rows != head.rows:
        raise ReconciliationError(f"{name}: {head.rows} rows were to be compacted, {written.rows} came out")
