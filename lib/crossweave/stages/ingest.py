"""Ingest: checks the input tables, hashes every content, parts the interactions, commits the catalog.

Payloads never take part in a shuffle: the first pass over the items keeps hashes only, and sha-256 is computed
only where the cheap change hash differs from last night's.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from crossweave.config import Settings
from crossweave.errors import ReconciliationError
from crossweave.runtime.record import Ledger, PlanLine, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.tables.content import change_hash, content_hash, content_value, is_empty
from crossweave.tables.contract import ANY, FLAG, ID, KIND_COLUMNS, NUMBER, TIME, ColumnType, InputTable, preflight
from crossweave.tables.files import digest
from crossweave.tables.quarantine import count_reasons, quarantine_rows
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.schema import table_schema
from crossweave.tables.splits import random_split, split_order
from crossweave.tables.store import TableStore

STAGE = "ingest"
TABLES = ("catalog", "users", "interactions", "quarantine")
CODE_VERSION = 1  # of the tables' meaning; a change makes the next night ingest everything anew


@dataclass(frozen=True)
class Inputs:
    """The input tables that passed their footer checks."""

    items: InputTable
    interactions: InputTable
    users: InputTable | None

    @property
    def tables(self) -> list[InputTable]:
        """All of them."""
        return [table for table in (self.items, self.interactions, self.users) if table is not None]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


def ingest_catalog(context: StageContext, record: StageRecord) -> None:
    """Bring the input tables into the workspace.

    Writes catalog, users, interactions (each as a whole) and appends to quarantine.
    Raises InputContractError for a damaged file or a missing or retyped column.
    """
    settings = context.settings
    inputs = check_inputs(settings)
    receipts = Receipts(context.workspace)
    previous = receipts.latest(STAGE)
    fingerprint = _fingerprint(settings, inputs)
    if previous is not None and previous.fingerprint == fingerprint:
        record.nothing_to_do(previous.rows, previous.writes, "the input files are those of the last run")
        return

    store = TableStore(context.workspace / "tables")
    bases = {name: snapshot.version if (snapshot := store.snapshot(name)) else None for name in TABLES}
    staging = context.workspace / "staging" / context.run_id
    try:
        night = _Night(context, store, inputs, previous, staging)
        frames, quarantine = night.tables()
        for name, frame in frames.items():
            night.expect(name, store.write(frame, name, "replace", base=bases[name]).rows)
        if not quarantine.isEmpty():
            once = f"{STAGE}:{fingerprint}:{previous.run_id if previous else ''}"
            store.write(quarantine, "quarantine", "append", base=bases["quarantine"], once=once)
    finally:
        shutil.rmtree(staging, ignore_errors=True)

    record.ledgers = night.ledgers
    record.check()
    heads = {name: store.snapshot(name) for name in TABLES}
    record.writes = {name: snapshot.version for name, snapshot in heads.items() if snapshot is not None}
    record.metrics = {"items_new_or_changed": night.changed_items, "items_removed": night.removed_items}
    details = {
        "id_types": {
            "item": "integer" if inputs.items.is_integer(settings.inputs.items.id) else "string",
            "user": "integer" if inputs.interactions.is_integer(settings.inputs.interactions.user) else "string",
        },
        "repeated_ids": night.ledgers["items"].quarantined.get("duplicate_id", 0),
    }
    receipts.publish(
        Receipt(STAGE, fingerprint, context.run_id, {}, record.writes, record.total.rows_in, details=details)
    )


def plan_ingest(context: StageContext) -> tuple[PlanLine, dict[str, int] | None]:
    """Say what ingest would read, and how many contents of each modality it would find new or changed.

    Reads footers, and where files changed hashes every payload; writes nothing.
    """
    inputs = check_inputs(context.settings)
    previous = Receipts(context.workspace).latest(STAGE)
    if previous is not None and previous.fingerprint == _fingerprint(context.settings, inputs):
        return PlanLine(STAGE, False, "the input files are those of the last run"), None
    night = _Night(
        context, TableStore(context.workspace / "tables"), inputs, previous, context.workspace / "staging" / "plan"
    )
    changed = night.count_changed()
    size = sum(file.stat().st_size for table in inputs.tables for file in table.files)
    files = sum(len(table.files) for table in inputs.tables)
    return PlanLine(STAGE, True, f"{inputs.rows:,} rows in {files:,} files ({size / 1e6:,.1f} MB)"), changed


def check_inputs(settings: Settings) -> Inputs:
    """Read every footer of the input tables; raises InputContractError naming file and column."""
    items, interactions, users = settings.inputs.items, settings.inputs.interactions, settings.inputs.users
    item_columns: dict[str, ColumnType] = dict.fromkeys(items.attributes, ANY)
    item_columns |= {items.title: ANY} if items.title else {}
    item_columns |= {items.cold_column: FLAG} if items.cold_column else {}
    for modality in settings.modalities.values():
        item_columns |= dict.fromkeys(modality.columns, KIND_COLUMNS[modality.kind])
    item_columns[items.id] = ID
    event_columns: dict[str, ColumnType] = {interactions.user: ID, interactions.item: ID}
    event_columns |= {interactions.weight: NUMBER} if interactions.weight else {}
    event_columns |= {interactions.time: TIME} if interactions.time else {}
    if settings.split.method == "column":
        event_columns[settings.split.column] = KIND_COLUMNS["text"]
    return Inputs(
        preflight("items", items.path, item_columns),
        preflight("interactions", interactions.path, event_columns),
        preflight("users", users.path, {users.id: ID, **dict.fromkeys(users.attributes, ANY)}) if users.path else None,
    )


def _fingerprint(settings: Settings, inputs: Inputs) -> str:
    return digest(
        {
            "code": CODE_VERSION,
            "files": [table.fingerprint for table in inputs.tables],
            "inputs": settings.inputs.model_dump(mode="json"),
            "split": settings.split.model_dump(mode="json", exclude={"protocol"}),
            "seed": settings.seed,
            "modalities": {n: [m.kind, m.columns] for n, m in settings.modalities.items()},
        }
    )


class _Night:
    """One night's ingest: frames of every table, quarantine rows and ledgers."""

    def __init__(
        self, context: StageContext, store: TableStore, inputs: Inputs, previous: Receipt | None, staging: Path
    ) -> None:
        self.context, self.settings, self.store, self.inputs = context, context.settings, store, inputs
        self.previous, self.staging = previous, staging
        self.spark: SparkSession = context.spark
        self.ledgers: dict[str, Ledger] = {}
        self.changed_items = 0
        self.removed_items = 0
        self._expected: dict[str, int] = {}

    def tables(self) -> tuple[dict[str, DataFrame], DataFrame]:
        """Return the frames to commit, by table, and tonight's quarantine rows."""
        catalog, refused_items, refused_contents = self._items()
        users, refused_users = self._users()
        interactions, refused_events = self._interactions(catalog)
        frames = {"catalog": catalog, "users": users, "interactions": interactions}
        return frames, refused_items.unionByName(refused_contents).unionByName(refused_users).unionByName(
            refused_events
        )

    def expect(self, table: str, rows: int) -> None:
        """Compare the rows that were committed with those that were counted on the way."""
        if rows != self._expected[table]:
            raise ReconciliationError(f"table {table} got {rows} rows, {self._expected[table]} were counted")

    def count_changed(self) -> dict[str, int]:
        """Count by modality the contents whose change hash differs from the last catalog's."""
        cells = self._scan(_source(self.spark, self.inputs.items), with_content=False).select(
            "item_id", F.explode("cells").alias("modality", "cell")
        )
        cells = cells.where("not cell.empty").select("item_id", "modality", F.col("cell.change").alias("change"))
        last = self._last_catalog()
        if last is not None:
            old = last.select("item_id", F.explode("hashes").alias("modality", "hashes"))
            old = old.select("item_id", "modality", F.col("hashes.change").alias("change"))
            cells = cells.join(old, ["item_id", "modality", "change"], "left_anti")
        counts = {r["modality"]: r["count"] for r in cells.groupBy("modality").count().collect()}
        return {name: counts.get(name, 0) for name in self.settings.modalities}

    def _stage(self, frame: DataFrame, name: str) -> DataFrame:
        """Write an intermediate result once, so that nothing is computed twice or differently."""
        path = str(self.staging / name)
        frame.write.parquet(path)
        return self.spark.read.schema(frame.schema).parquet(path)

    # Items -----------------------------------------------------------------------------------------------------

    def _items(self) -> tuple[DataFrame, DataFrame, DataFrame]:
        source = _source(self.spark, self.inputs.items)
        last = self._last_catalog()
        with_content = last is None
        scanned = self._stage(self._scan(source, with_content), "items")
        first_row = Window.partitionBy("item_id").orderBy("file", "row")
        ranked = scanned.withColumn("copy", F.row_number().over(first_row))
        bad_id = F.coalesce(F.trim("item_id") == "", F.lit(True))
        reason = F.when(bad_id, "null_id").when(F.col("copy") > 1, "duplicate_id")
        judged = self._stage(ranked.withColumn("reason", reason), "items-judged")
        refused = quarantine_rows(
            judged.where(F.col("reason").isNotNull()),
            date=self.context.date,
            stage=STAGE,
            entity="item",
            reason=F.col("reason"),
            detail=F.concat_ws(" ", F.lit("row"), F.col("row"), F.lit("of"), F.col("file")),
            item_id=F.col("item_id"),
        )
        good = judged.where(F.col("reason").isNull()).drop("reason", "copy")
        if last is not None:
            good = self._with_content_hashes(good, source, last)
        catalog, contents = self._catalog(good, last)
        self._count("items", self.inputs.items.rows, good.count(), refused)
        hashed = catalog.where("status = 'active'").select(F.explode("hashes")).count()
        cells = good.select(F.explode("cells").alias("_", "cell")).count()
        self._count("contents", cells, hashed, contents)
        self._expected["catalog"] = self.ledgers["items"].rows_out + self.removed_items
        return catalog, refused, contents

    def _scan(self, source: DataFrame, with_content: bool) -> DataFrame:
        """Keep of every item row its id, attributes and, by modality, hashes and emptiness; never a payload."""
        items = self.settings.inputs.items
        cells = []
        for name, modality in self.settings.modalities.items():
            value = content_value(modality.kind, modality.columns)
            empty = F.coalesce(is_empty(modality.kind, value), F.lit(False))
            content = content_hash(modality.kind, value) if with_content else F.lit(None).cast("string")
            cell = F.struct(
                change_hash(modality.kind, value).alias("change"),
                F.when(~empty, content).alias("content"),
                empty.alias("empty"),
            )
            cells += [F.lit(name), F.when(value.isNotNull(), cell)]
        no_cells = F.from_json(F.lit("{}"), "map<string, struct<change: bigint, content: string, empty: boolean>>")
        every = F.create_map(*cells) if cells else no_cells
        title = F.col(items.title).cast("string") if items.title else F.lit(None).cast("string")
        cold = F.coalesce(F.col(items.cold_column), F.lit(False)) if items.cold_column else F.lit(False)
        return source.select(
            F.col(items.id).cast("string").alias("item_id"),
            F.coalesce(title, F.col(items.id).cast("string")).alias("title"),
            cold.alias("cold"),
            _attributes(source, items.attributes).alias("attributes"),
            F.map_filter(every, lambda _, cell: cell.isNotNull()).alias("cells"),
            F.regexp_extract("_metadata.file_path", r"([^/]+)$", 1).alias("file"),
            F.col("_metadata.row_index").alias("row"),
        )

    def _last_catalog(self) -> DataFrame | None:
        """Read the catalog of the last complete ingest, if its modalities were read from the same columns."""
        if self.previous is None:
            return None
        return self.store.read(self.spark, "catalog", self.previous.writes["catalog"])

    def _with_content_hashes(self, good: DataFrame, source: DataFrame, last: DataFrame) -> DataFrame:
        """Fill in content hashes: last night's where the change hash is the same, sha-256 of the payload elsewhere."""
        known = last.select("item_id", F.col("hashes").alias("old"))
        joined = good.join(known, "item_id", "left")
        carried = joined.withColumn(
            "cells",
            F.transform_values(
                "cells",
                lambda name, cell: F.struct(
                    cell["change"].alias("change"),
                    F.when(
                        F.try_element_at("old", name)["change"] == cell["change"],
                        F.try_element_at("old", name)["content"],
                    ).alias("content"),
                    cell["empty"].alias("empty"),
                ),
            ),
        ).drop("old")
        carried = self._stage(carried, "items-carried")
        lacks = F.exists(F.map_values("cells"), lambda cell: cell["content"].isNull() & ~cell["empty"])
        changed = carried.where(lacks).select(F.col("item_id").alias("_changed"))
        if changed.isEmpty():
            return carried
        item_id = F.col(self.settings.inputs.items.id).cast("string")
        fresh = (
            self._scan(source.join(F.broadcast(changed), item_id == F.col("_changed"), "left_semi"), with_content=True)
            .withColumn("copy", F.row_number().over(Window.partitionBy("item_id").orderBy("file", "row")))
            .where("copy = 1")
            .select("item_id", F.col("cells").alias("fresh"))
        )
        return self._stage(
            carried.join(fresh, "item_id", "left").withColumn("cells", F.coalesce("fresh", "cells")).drop("fresh"),
            "items-hashed",
        )

    def _catalog(self, good: DataFrame, last: DataFrame | None) -> tuple[DataFrame, DataFrame]:
        today = F.lit(self.context.date)
        filled = F.map_filter("cells", lambda _, cell: ~cell["empty"])
        hashes = F.transform_values(
            filled, lambda _, cell: F.struct(cell["change"].alias("change"), cell["content"].alias("content"))
        )
        active = good.select(
            "item_id", "title", "cold", "attributes", hashes.alias("hashes"), F.lit("active").alias("status")
        )
        cells = good.select("item_id", "file", "row", F.explode("cells").alias("modality", "cell"))
        contents = quarantine_rows(
            cells.where("cell.empty"),
            date=self.context.date,
            stage=STAGE,
            entity="item",
            reason=F.lit("empty_content"),
            detail=F.format_string("row %d of %s holds an empty value; null means missing", "row", "file"),
            item_id=F.col("item_id"),
            modality=F.col("modality"),
        )
        columns = table_schema("catalog").names
        if last is None:
            catalog = active.withColumn("first_seen", today).withColumn("last_seen", today)
            self.changed_items = active.count()
            return self._stage(catalog.select(*columns), "catalog"), contents
        seen = last.select(
            "item_id",
            F.col("first_seen").alias("_first"),
            F.map_entries("hashes").alias("_old"),
            (F.col("status") == "active").alias("_was_active"),
        )
        joined = active.join(seen, "item_id", "left")
        same = F.coalesce(F.sort_array("_old") == F.sort_array(F.map_entries("hashes")), F.lit(False))
        self.changed_items = joined.where(~(same & F.coalesce("_was_active", F.lit(False)))).count()
        tonight = joined.withColumn("first_seen", F.coalesce("_first", today)).withColumn("last_seen", today)
        removed = last.join(active, "item_id", "left_anti").withColumn("status", F.lit("removed"))
        self.removed_items = removed.count()
        catalog = tonight.select(*columns).unionByName(removed.select(*columns))
        return self._stage(catalog, "catalog"), contents

    # Users and interactions ------------------------------------------------------------------------------------

    def _users(self) -> tuple[DataFrame, DataFrame]:
        nobody = self.spark.createDataFrame([], "user_id string, attributes map<string, string>")
        if self.inputs.users is None:
            self._expected["users"] = 0
            return nobody, self._nothing_refused()
        users = self.settings.inputs.users
        source = _source(self.spark, self.inputs.users)
        rows = source.select(
            F.col(users.id).cast("string").alias("user_id"),
            _attributes(source, users.attributes).alias("attributes"),
            F.col("_metadata.file_path").alias("file"),
            F.col("_metadata.row_index").alias("row"),
        )
        copy = F.row_number().over(Window.partitionBy("user_id").orderBy("file", "row"))
        bad_id = F.coalesce(F.trim("user_id") == "", F.lit(True))
        reason = F.when(bad_id, "null_id").when(F.col("copy") > 1, "duplicate_id")
        judged = self._stage(rows.withColumn("copy", copy).withColumn("reason", reason), "users")
        refused = quarantine_rows(
            judged.where(F.col("reason").isNotNull()),
            date=self.context.date,
            stage=STAGE,
            entity="user",
            reason=F.col("reason"),
            detail=F.format_string("row %d of the users table", "row"),
            user_id=F.col("user_id"),
        )
        good = judged.where(F.col("reason").isNull()).select("user_id", "attributes")
        self._expected["users"] = good.count()
        self._count("users", self.inputs.users.rows, self._expected["users"], refused)
        return good, refused

    def _interactions(self, catalog: DataFrame) -> tuple[DataFrame, DataFrame]:
        columns, split = self.settings.inputs.interactions, self.settings.split
        source = _source(self.spark, self.inputs.interactions)
        weight = F.coalesce(F.col(columns.weight).cast("float"), F.lit(1.0)) if columns.weight else F.lit(1.0)
        rows = source.select(
            F.col(columns.user).cast("string").alias("user_id"),
            F.col(columns.item).cast("string").alias("item_id"),
            weight.cast("float").alias("weight"),
            self._event_time(columns.time).alias("event_time"),
            (F.col(split.column) if split.method == "column" else F.lit("train")).alias("split"),
            F.regexp_extract("_metadata.file_path", r"([^/]+)$", 1).alias("file"),
            F.col("_metadata.row_index").alias("row"),
        )
        known = catalog.where("status = 'active'").select("item_id", F.lit(True).alias("known"))
        finite = ~F.isnan("weight") & (F.abs("weight") < float("inf"))
        blank = (F.trim("user_id") == "") | (F.trim("item_id") == "")
        reason = (
            F.when(F.coalesce(blank, F.lit(True)), "null_id")
            .when(F.col("known").isNull(), "unknown_item")
            .when(~finite, "non_finite")
            .when(~F.coalesce(F.col("split").isin("train", "valid", "test"), F.lit(False)), "unknown_split")
        )
        judged = rows.join(known, "item_id", "left").withColumn("reason", reason)
        if split.method == "column":
            pair = Window.partitionBy("user_id", "item_id")
            first = F.min(F.when(F.col("reason").isNull(), split_order(F.col("split")))).over(pair)
            later = F.col("reason").isNull() & (split_order(F.col("split")) > first)
            judged = judged.withColumn("reason", F.when(later, "pair_in_two_splits").otherwise(F.col("reason")))
        judged = self._stage(judged, "interactions")
        refused = quarantine_rows(
            judged.where(F.col("reason").isNotNull()),
            date=self.context.date,
            stage=STAGE,
            entity="interaction",
            reason=F.col("reason"),
            detail=F.format_string("row %d of %s", "row", "file"),
            item_id=F.col("item_id"),
            user_id=F.col("user_id"),
        )
        good = judged.where(F.col("reason").isNull())
        self._expected["interactions"] = good.count()
        self._count("interactions", self.inputs.interactions.rows, self._expected["interactions"], refused)
        if split.method == "random":
            good = random_split(good, split.valid_fraction, split.test_fraction, self.settings.seed)
        return good, refused

    def _event_time(self, column: str | None) -> Column:
        if column is None:
            return F.lit(None).cast("timestamp")
        if self.inputs.interactions.is_integer(column):
            return F.timestamp_seconds(F.col(column))
        return F.col(column).cast("timestamp")

    def _count(self, what: str, rows_in: int, rows_out: int, refused: DataFrame) -> None:
        ledger = Ledger(rows_in=rows_in, rows_out=rows_out, quarantined=count_reasons(refused))
        ledger.check(f"{STAGE}.{what}")
        self.ledgers[what] = ledger

    def _nothing_refused(self) -> DataFrame:
        return self.store.read(self.spark, "quarantine").limit(0)


def _source(spark: SparkSession, table: InputTable) -> DataFrame:
    return spark.read.parquet(*[str(file) for file in table.files])


def _attributes(source: DataFrame, names: list[str]) -> Column:
    """Return a map of the named columns as strings; a null has no entry, a nested value becomes JSON."""
    entries: list[Column] = []
    types: Mapping[str, str] = dict(source.dtypes)
    for name in names:
        nested = types[name].startswith(("array", "map", "struct"))
        entries += [F.lit(name), F.to_json(F.col(name)) if nested else F.col(name).cast("string")]
    if not entries:
        return F.from_json(F.lit("{}"), "map<string, string>")
    return F.map_filter(F.create_map(*entries), lambda _, value: value.isNotNull())
