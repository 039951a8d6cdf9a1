"""Reads the contents themselves back from the items table: the only place that carries payloads to workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.tables.content import content_hash, content_value
from crossweave.tables.contract import ID, KIND_COLUMNS, wanted_columns
from crossweave.tables.footers import InputTable
from crossweave.tables.paths import user_column
from crossweave.tables.source import Source, check_source, read_source

BROADCAST_ROWS = 2_000_000  # contents to read up to here travel to the scan; above, the payloads are shuffled
SPREAD_ROWS = 100_000  # contents up to here are dealt out evenly to the tasks, whatever the input's row groups
BATCH_BYTES = 16 << 20  # of values that one Arrow batch carries to a worker, on average


def read_payloads(
    spark: SparkSession,
    source: Source,
    files: Sequence[str],
    id_column: str,
    kind: str,
    columns: Sequence[str],
    wanted: DataFrame,
    count: int,
    rows_per_task: int,
) -> DataFrame:
    """Return (content_hash, value) of the wanted contents (content_hash, item_id), as they were when ingested.

    Only the named files are read, those that hold the wanted items, as far as they are still there. A row whose content
    is no longer what its hash says is left out: the caller counts. Several rows of one item may repeat a content.
    """
    files = [file for file in files if file in source.table.stamps]
    tasks = max(spark.sparkContext.defaultParallelism, -(-count // rows_per_task))
    size = sum(source.table.sizes[file] for file in files)
    with temporarily(spark, "spark.sql.files.maxPartitionBytes", max(1 << 20, size // tasks)):
        items = read_source(spark, source, files)
    keys = wanted.select(F.col("item_id").alias("_item"), "content_hash")
    keys = F.broadcast(keys) if count <= BROADCAST_ROWS else keys
    value = content_value(kind, {name: user_column(name) for name in columns})
    rows = items.join(keys, user_column(id_column).cast("string") == F.col("_item"))
    rows = rows.select("content_hash", value.alias("value"), content_hash(kind, value).alias("actual"))
    rows = rows.where("actual = content_hash").select("content_hash", "value")
    return rows.repartition(tasks) if count <= SPREAD_ROWS else rows


def payload_source(
    spark: Callable[[], SparkSession],
    path: str,
    id_column: str,
    read: Iterable[tuple[str, Sequence[str]]],
    derived: Mapping[str, str],
) -> Source:
    """Open the items table for its payloads, with the columns that settings derive; `read`: kind and columns of each.

    Raises InputContractError where a column is missing or cannot hold such a content.
    """
    columns = [(column, KIND_COLUMNS[kind]) for kind, names in read for column in names]
    return check_source(spark, "items", path, wanted_columns([(id_column, ID), *columns]), derived)


@contextmanager
def temporarily(spark: SparkSession, key: str, value: int) -> Iterator[None]:
    """Set a Spark setting for a while; what stood there before stands there again afterwards."""
    before = str(spark.conf.get(key))
    spark.conf.set(key, value)
    try:
        yield
    finally:
        spark.conf.set(key, before)


def batch_rows(table: InputTable, most: int) -> int:
    """Return how many rows an Arrow batch should carry, so that even large media stay within BATCH_BYTES a batch."""
    return max(1, min(most, BATCH_BYTES * table.rows // max(1, table.size)))
