"""The rows of the items table without their payloads: what ingest keeps of each, and how it finds what changed.

Rows of a file that is the same as last night are carried over unread. Of the others, a row whose id and time of
change were seen before keeps its hashes; the rest is read, and sha-256 is computed only where the cheap change hash
differs from the item's of last night. Payloads never take part in a shuffle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.tables.content import change_hash, content_hash, content_value, is_empty
from crossweave.tables.paths import user_column
from crossweave.tables.schema import ITEM_ROWS, spark_schema
from crossweave.tables.source import FILE, ROW, Source, read_source
from crossweave.tables.times import at_least, known_time
from crossweave.tables.values import NOT_UTF8, as_strings, misread, text_of, with_refusal

EMPTY = "empty_content"
OF_TEXT = ("text", "tags", "attributes", "vector_id")
"""Kinds of modalities whose contents are made of texts."""

KNOWN_CELLS = 1_000_000  # hashes of last night that travel to the scan; above, every scanned content gets its sha-256
KNOWN_ROWS = 1_000_000  # rows to be read that travel to the scan; above, all rows of changed files are read


@dataclass(frozen=True)
class ItemColumns:
    """Which columns of the items table are what."""

    id: str
    title: str | None
    cold: str | None
    attributes: Sequence[str]
    updated_at: str | None
    modalities: Mapping[str, tuple[str, Sequence[str]]]  # name -> kind, columns
    time_unit: str = "s"  # of updated_at, where it is a number


@dataclass(frozen=True)
class LastNight:
    """What the last complete ingest left."""

    rows: DataFrame | None  # of the table item_rows; None where that ingest read other columns
    catalog: DataFrame
    cells: int  # at most so many hashes stand in the catalog


def item_rows(
    spark: SparkSession,
    source: Source,
    columns: ItemColumns,
    last: LastNight | None,
    unchanged: Collection[str],
    stage: Callable[[DataFrame, str], DataFrame],
) -> DataFrame:
    """Return every row of the items table in the schema of the table item_rows, with `refused` filled in.

    `unchanged` names the files that are those of last night, `stage` writes a frame once and reads it back.
    """
    changed = sorted(set(source.table.stamps) - set(unchanged))
    kept = None
    if last is not None and last.rows is not None and unchanged:
        names = spark.createDataFrame([(file,) for file in sorted(unchanged)], "file string")
        kept = last.rows.join(F.broadcast(names), "file", "left_semi")
    fresh, same_time = _fresh(spark, source, columns, last, changed, stage)
    known = last.catalog if last is not None and last.cells <= KNOWN_CELLS else None
    parts = [part for part in (kept, same_time, scan(fresh, columns, known)) if part is not None]
    every = parts[0].select(*ITEM_ROWS.names)
    for part in parts[1:]:
        every = every.unionByName(part.select(*ITEM_ROWS.names))
    return with_refusal(every, "item_id", "refused")


def count_changed(
    spark: SparkSession, source: Source, columns: ItemColumns, last: LastNight | None, unchanged: Collection[str]
) -> dict[str, int]:
    """Count by modality the contents of changed files whose change hash is not the item's of last night."""
    changed = sorted(set(source.table.stamps) - set(unchanged))
    cells = scan(read_source(spark, source, changed), columns, None, content=False).select(
        "item_id", F.explode("cells").alias("modality", "cell")
    )
    cells = cells.where("cell.refused is null").select("item_id", "modality", F.col("cell.change").alias("change"))
    if last is not None:
        old = last.catalog.select("item_id", F.explode("hashes").alias("modality", "hashes"))
        old = old.select("item_id", "modality", F.col("hashes.change").alias("change"))
        cells = cells.join(old, ["item_id", "modality", "change"], "left_anti")
    return {row["modality"]: row["count"] for row in cells.groupBy("modality").count().collect()}


def scan(source: DataFrame, columns: ItemColumns, known: DataFrame | None, content: bool = True) -> DataFrame:
    """Keep of every source row its place, id, attributes and, by modality, hashes and emptiness; never a payload.

    With `known` (a catalog), the content hash is the item's in it where the change hash is; sha-256 elsewhere.
    """
    item_id = text_of(source, columns.id)
    texts = [columns.id, *([columns.title] if columns.title else []), *columns.attributes]
    rows = source.withColumn("_item", item_id)
    if known is not None:
        old = known.select(F.col("item_id").alias("_item"), F.col("hashes").alias("_old"))
        rows = rows.join(F.broadcast(old), "_item", "left")
    values = {
        name: content_value(kind, {column: user_column(column) for column in read})
        for name, (kind, read) in columns.modalities.items()
    }
    # Computed once a row, in a step of its own: both the cell and the comparison with last night need it.
    changes = {f"_change_{name}": change_hash(columns.modalities[name][0], value) for name, value in values.items()}
    rows = rows.withColumns(changes) if changes else rows
    cells: list[Column] = []
    for name, value in values.items():
        kind, change = columns.modalities[name][0], F.col(f"_change_{name}")
        read = columns.modalities[name][1] if kind in OF_TEXT else ()
        refused = F.when(misread(source, read, binary=False), NOT_UTF8)
        refused = refused.when(is_empty(kind, value), EMPTY)
        hashed = content_hash(kind, value) if content else F.lit(None).cast("string")
        if known is not None:
            before = F.try_element_at("_old", F.lit(name))
            hashed = F.when(before["change"] == change, before["content"]).otherwise(hashed)
        kept = F.when(refused.isNull(), hashed)
        cell = F.struct(change.alias("change"), kept.alias("content"), refused.alias("refused"))
        cells += [F.lit(name), F.when(value.isNotNull(), cell)]
    no_cells = F.from_json(F.lit("{}"), spark_schema("item_rows")["cells"].dataType.simpleString())
    every = F.create_map(*cells) if cells else no_cells
    title = text_of(source, columns.title) if columns.title else F.lit(None).cast("string")
    cold = F.coalesce(user_column(columns.cold), F.lit(False)) if columns.cold else F.lit(False)
    return rows.select(
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
        item_id.alias("item_id"),
        known_time(source, columns.updated_at, columns.time_unit).alias("updated_at"),
        F.coalesce(title, item_id).alias("title"),
        cold.alias("cold"),
        as_strings(source, columns.attributes).alias("attributes"),
        F.map_filter(every, lambda _, cell: cell.isNotNull()).alias("cells"),
        F.when(misread(source, texts), NOT_UTF8).alias("refused"),
    )


def _fresh(
    spark: SparkSession,
    source: Source,
    columns: ItemColumns,
    last: LastNight | None,
    files: Sequence[str],
    stage: Callable[[DataFrame, str], DataFrame],
) -> tuple[DataFrame, DataFrame | None]:
    """Part the rows of changed files: source rows to be scanned, and item rows known by their id and time of change."""
    rows = read_source(spark, source, files)
    if columns.updated_at is None or last is None or last.rows is None or not files:
        return rows, None
    updated_at = known_time(rows, columns.updated_at, columns.time_unit)
    stubs = rows.select(
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
        text_of(rows, columns.id).alias("item_id"),
        updated_at.alias("updated_at"),
    )
    before = (
        last.rows.where("refused is null and updated_at is not null")
        .drop("file", "row")
        .withColumn("seen", F.lit(True))
    )
    met = stage(stubs.join(before, ["item_id", "updated_at"], "left"), "items-by-time")
    unseen = met.where("seen is null").select(F.col("file").alias(FILE), F.col("row").alias(ROW), "updated_at")
    oldest = unseen.agg(
        F.count("*").alias("rows"), F.count("updated_at").alias("dated"), F.min(F.unix_micros("updated_at")).alias("at")
    ).first()
    assert oldest is not None
    if oldest["rows"] > KNOWN_ROWS:
        return rows, None
    if oldest["rows"] == oldest["dated"] and oldest["rows"]:  # a filter on the column itself reaches the row groups
        rows = rows.where(at_least(rows, columns.updated_at, columns.time_unit, oldest["at"]))
    return rows.join(F.broadcast(unseen.drop("updated_at")), [FILE, ROW], "left_semi"), met.where("seen").drop("seen")
