"""Ingest: checks the input tables, hashes every content, parts the interactions, commits the catalog.

A table whose files and settings are those of the last complete run keeps its version; of the items table only the
files that changed are read.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from crossweave.config import Settings
from crossweave.errors import ReconciliationError
from crossweave.runtime.record import Ledger, PlanLine, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.stages.ingest.parting import parted, split_facts
from crossweave.tables.catalog import new_catalog
from crossweave.tables.contract import ANY, FLAG, ID, KIND_COLUMNS, NUMBER, TEXT, TIME, wanted_columns
from crossweave.tables.events import judged_blocks, judged_interactions, judged_users
from crossweave.tables.files import digest
from crossweave.tables.footers import InputTable, preflight
from crossweave.tables.item_rows import ItemColumns, LastNight, count_changed, item_rows
from crossweave.tables.paths import inner_name, read_parquet, spark_path
from crossweave.tables.quarantine import count_reasons, last_run, quarantine_rows
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.source import Source, check_source, read_source
from crossweave.tables.splits import is_drawn
from crossweave.tables.store import Snapshot, TableStore

STAGE = "ingest"
TABLES = ("item_rows", "catalog", "users", "interactions", "blocks", "quarantine")
CODE_VERSION = 3  # of the tables' meaning; a change makes the next night ingest everything anew


@dataclass(frozen=True)
class Inputs:
    """The input tables that passed their checks."""

    items: Source
    interactions: InputTable
    users: InputTable | None
    blocks: InputTable | None

    @property
    def tables(self) -> list[InputTable]:
        """All of them."""
        return [t for t in (self.items.table, self.interactions, self.users, self.blocks) if t is not None]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


def ingest_catalog(context: StageContext, record: StageRecord) -> None:
    """Bring the input tables into the workspace.

    Writes item_rows and catalog, users, interactions and blocks where they may differ (each as a whole), and appends to
    quarantine. Raises InputContractError for a damaged file or a missing or retyped column.
    """
    settings = context.settings
    inputs = check_inputs(context)
    record.warnings = [
        f"{len(table.passed_over):,} files in {table.root} are no Parquet and were passed over: "
        + ", ".join(table.passed_over[:5])
        for table in inputs.tables
        if table.passed_over
    ]
    receipts = Receipts(context.workspace)
    previous = receipts.latest(STAGE)
    prints = _prints(settings, inputs)
    fingerprint = digest(prints)
    if previous is not None and previous.fingerprint == fingerprint:
        record.nothing_to_do(previous.rows, previous.writes, "the input files are those of the last run")
        record.facts = {"split": previous.details.get("split", {}) | {"protocol": settings.split.protocol}}
        return
    night = _Night(context, inputs, previous, prints)
    try:
        night.run(f"{STAGE}:{fingerprint}:{previous.run_id if previous else ''}")
    finally:
        shutil.rmtree(night.staging, ignore_errors=True)
    record.ledgers = night.ledgers
    record.check()
    record.writes = night.writes
    record.metrics = night.metrics
    split = night.split | {
        "protocol": settings.split.protocol,
        "cold_items": night.metrics["items_cold"],
        "cold_items_share": settings.split.cold_items,
    }
    record.facts = {"split": split}
    record.note = f"{night.metrics['item_files_read']:,} of {len(inputs.items.table.files):,} item files read"
    items, interactions = settings.inputs.items, settings.inputs.interactions
    details = {
        "id_types": {
            "item": "integer" if inputs.items.is_integer(items.id) else "string",
            "user": "integer" if inputs.interactions.is_integer(interactions.user) else "string",
        },
        "refused_by": night.refused_by,
        "repeated_ids": night.ledgers["items"].quarantined.get("duplicate_id", 0),
        "prints": prints,
        "split": split,
        "files": dict(inputs.items.table.stamps),
    }
    receipts.publish(
        Receipt(STAGE, fingerprint, context.run_id, {}, record.writes, record.total.rows_in, details=details)
    )


def plan_ingest(context: StageContext) -> tuple[PlanLine, dict[str, int] | None]:
    """Say what ingest would read, and how many contents of each modality it would find new or changed.

    Reads footers, and hashes the payloads of changed files; writes nothing.
    """
    inputs = check_inputs(context)
    previous = Receipts(context.workspace).latest(STAGE)
    prints = _prints(context.settings, inputs)
    if previous is not None and previous.fingerprint == digest(prints):
        return PlanLine(STAGE, False, "the input files are those of the last run"), None
    night = _Night(context, inputs, previous, prints)
    counts = count_changed(context.spark, inputs.items, _item_columns(context.settings), night.last, night.unchanged)
    changed = {name: counts.get(name, 0) for name in context.settings.modalities}
    files = sum(len(table.files) for table in inputs.tables)
    size = sum(table.size for table in inputs.tables)
    return PlanLine(STAGE, True, f"{inputs.rows:,} rows in {files:,} files ({size / 1e6:,.1f} MB)"), changed


def check_inputs(context: StageContext) -> Inputs:
    """Read every footer of the input tables; raises InputContractError naming file and column."""
    settings = context.settings
    items, interactions, users = settings.inputs.items, settings.inputs.interactions, settings.inputs.users
    blocks = settings.inputs.blocks
    item_columns = [(items.id, ID), (items.title, ANY), (items.cold_column, FLAG), (items.updated_at, TIME)]
    item_columns += [(column, ANY) for column in items.attributes]
    for modality in settings.modalities.values():
        item_columns += [(column, KIND_COLUMNS[modality.kind]) for column in modality.columns]
    event_columns = [(interactions.user, ID), (interactions.item, ID), (interactions.weight, NUMBER)]
    event_columns += [(interactions.time, TIME)]
    event_columns += [(settings.split.column, TEXT)] if settings.split.method == "column" else []
    block_columns = [(blocks.user, ID), (blocks.item, ID)]
    user_columns = [(users.id, ID), *((column, ANY) for column in users.attributes)]
    return Inputs(
        check_source(lambda: context.spark, "items", items.path, wanted_columns(item_columns), items.derived),
        preflight("interactions", interactions.path, wanted_columns(event_columns)),
        preflight("users", users.path, wanted_columns(user_columns)) if users.path else None,
        preflight("blocks", blocks.path, wanted_columns(block_columns)) if blocks.path else None,
    )


def _item_columns(settings: Settings) -> ItemColumns:
    items = settings.inputs.items
    modalities = {name: (m.kind, tuple(m.columns)) for name, m in settings.modalities.items()}
    return ItemColumns(items.id, items.title, items.cold_column, items.attributes, items.updated_at, modalities)


def _prints(settings: Settings, inputs: Inputs) -> dict[str, str]:
    """Return what decides each table: `scan` the meaning of an item row, the others their files and settings."""
    given, modalities = settings.inputs, {n: [m.kind, m.columns] for n, m in settings.modalities.items()}
    items = inputs.items.table
    split = settings.split.model_dump(mode="json", exclude={"protocol", "cold_items"})
    cold = digest([settings.split.cold_items, settings.seed]) if settings.split.cold_items else None
    blocks = [inputs.blocks.fingerprint, given.blocks.model_dump(mode="json")] if inputs.blocks else None
    return (
        {
            "code": str(CODE_VERSION),
            "scan": digest([str(items.root), given.items.model_dump(mode="json"), modalities, items.types]),
            "items": items.fingerprint,
            "interactions": digest(
                [inputs.interactions.fingerprint, given.interactions.model_dump(mode="json"), split, settings.seed]
            ),
            "users": digest([inputs.users.fingerprint if inputs.users else None, given.users.model_dump(mode="json")]),
        }
        | ({"blocks": digest(blocks)} if blocks else {})
        | ({"cold": cold} if cold else {})
    )


class _Night:
    """One night's ingest: what it commits, refuses and counts."""

    def __init__(self, context: StageContext, inputs: Inputs, previous: Receipt | None, prints: dict[str, str]) -> None:
        self.context, self.settings, self.inputs, self.previous = context, context.settings, inputs, previous
        self.spark: SparkSession = context.spark
        self.store = TableStore(context.workspace / "tables")
        self.staging = context.workspace / "staging" / context.run_id
        self.ledgers: dict[str, Ledger] = {}
        self.metrics: dict[str, float] = {}
        self.writes: dict[str, int] = {}
        self.refused_by = context.run_id  # the run that tonight's quarantine rows carry
        self.split: dict[str, Any] = {}  # how the interactions are parted, for the run record
        self._heads = {name: self.store.snapshot(name) for name in TABLES}  # what tonight's commits follow
        self._refused: list[DataFrame] = []
        done = previous.details.get("prints", {}) if previous is not None else {}
        same = {name for name, value in prints.items() if done.get(name) == value}
        self._same = same if "code" in same else set()
        stamps = inputs.items.table.stamps
        before = previous.details.get("files", {}) if previous is not None and "scan" in self._same else {}
        self.unchanged = {file for file, stamp in stamps.items() if before.get(file) == stamp}
        self.last = self._last_night()

    def run(self, once: str) -> None:
        """Write every table; refused rows go to the quarantine under the key `once`."""
        moved = self._items()
        self._users()
        self._interactions(moved)
        self._blocks(moved)
        head = self._heads["quarantine"]
        # Every reader finds a table of this name, be it empty.
        expected = sum(sum(ledger.quarantined.values()) for ledger in self.ledgers.values())
        if expected or head is None:
            rows = reduce(DataFrame.unionByName, self._refused, self._nothing_refused())
            known = head.rows if head is not None else 0
            again = head is not None and self.store.has_committed("quarantine", once)
            head = self.store.write(rows, "quarantine", "append", base=head.version if head else None, once=once)
            if again:  # an attempt that died after this commit has refused these rows
                self.refused_by = last_run(self.store.read(self.spark, "quarantine"), STAGE) or self.refused_by
            if not again and head.rows - known != expected:
                raise ReconciliationError(f"quarantine got {head.rows - known} rows, {expected} were counted")
        self.writes["quarantine"] = head.version

    def _last_night(self) -> LastNight | None:
        if self.previous is None:
            return None
        catalog, rows = self.previous.writes["catalog"], self.previous.writes.get("item_rows")
        known = self.store.required("catalog", catalog).rows * max(1, len(self.settings.modalities))
        read = "scan" in self._same and rows is not None
        return LastNight(
            self.store.read(self.spark, "item_rows", rows) if read else None,
            self.store.read(self.spark, "catalog", catalog),
            known,
        )

    def _stage(self, frame: DataFrame, name: str) -> DataFrame:
        """Write an intermediate result once, so that nothing is computed twice or differently."""
        path = self.staging / name
        frame.write.parquet(spark_path(path))
        return read_parquet(self.spark, [path], frame.schema)

    def _write(self, frame: DataFrame, name: str, rows: int | None = None) -> Snapshot:
        head = self._heads[name]
        written = self.store.write(frame, name, "replace", base=head.version if head else None)
        if rows is not None and written.rows != rows:
            raise ReconciliationError(f"table {name} got {written.rows} rows, {rows} were counted")
        self.writes[name] = written.version
        return written

    # Items -----------------------------------------------------------------------------------------------------

    def _items(self) -> bool:
        """Write item_rows and catalog; says whether items came or went."""
        columns, table = _item_columns(self.settings), self.inputs.items.table
        rows = item_rows(self.spark, self.inputs.items, columns, self.last, self.unchanged, self._stage)
        cells, empty = F.map_values("cells"), F.filter(F.map_values("cells"), lambda cell: cell["empty"])
        accepted = F.col("refused").isNull()
        counts = Observation("item_rows")
        observed = rows.observe(
            counts,
            F.count(F.when(accepted, 1)).alias("accepted"),
            *[F.count(F.when(F.col("refused") == reason, 1)).alias(reason) for reason in ("null_id", "duplicate_id")],
            F.coalesce(F.sum(F.when(accepted, F.size(cells))), F.lit(0)).alias("cells"),
            F.coalesce(F.sum(F.when(accepted, F.size(empty))), F.lit(0)).alias("empty"),
        )
        version = self._write(observed, "item_rows", table.rows).version
        seen = counts.get
        stored = self.store.read(self.spark, "item_rows", version)
        self._ledger("items", table.rows, seen["accepted"], {r: seen[r] for r in ("null_id", "duplicate_id")})
        last = self.last.catalog if self.last is not None else None
        accepted_rows, share = stored.where("refused is null"), self.settings.split.cold_items
        if share:
            drawn = is_drawn(share, self.settings.seed, "cold items", "item_id")
            accepted_rows = accepted_rows.withColumn("cold", drawn)
        catalog, observation = new_catalog(accepted_rows, last, self.context.date)
        written = self._write(catalog, "catalog")
        found = observation.get
        if (written.rows, found["active"]) != (found["active"] + found["removed"], seen["accepted"]):
            raise ReconciliationError(
                f"table catalog got {written.rows} rows, {found['active']} of them active and {found['removed']} "
                f"removed, {seen['accepted']} items were accepted"
            )
        self._ledger("contents", seen["cells"], found["contents"], {"empty_content": seen["empty"]})
        self._refuse_items(stored)
        self.metrics = {
            "items_new_or_changed": found["changed"],
            "items_removed": found["removed"],
            "items_cold": found["cold"],
            "item_files_read": len(table.files) - len(self.unchanged),
        }
        return bool(found["moved"])

    def _refuse_items(self, rows: DataFrame) -> None:
        if self.ledgers["items"].quarantined:
            self._refuse(
                rows.where("refused is not null"),
                "item",
                reason=F.col("refused"),
                item_id=F.col("item_id"),
            )
        if self.ledgers["contents"].quarantined:
            cells = rows.where("refused is null").select(
                "item_id", "file", "row", F.explode("cells").alias("modality", "cell")
            )
            self._refuse(
                cells.where("cell.empty"),
                "item",
                " holds an empty value; null means missing",
                reason=F.lit("empty_content"),
                item_id=F.col("item_id"),
                modality=F.col("modality"),
            )

    # Users and interactions ------------------------------------------------------------------------------------

    def _users(self) -> None:
        if self._kept("users", self.inputs.users.rows if self.inputs.users else 0, "users" in self._same):
            return
        if self.inputs.users is None:
            self._write(self.spark.createDataFrame([], "user_id string, attributes map<string, string>"), "users")
            return
        users = self.settings.inputs.users
        source = read_source(self.spark, Source(self.inputs.users, {}))
        judged = self._stage(judged_users(source, inner_name(users.id), users.attributes), "users")
        self._write_judged(judged, judged.where("reason is null"), "users", "user", self.inputs.users.rows)

    def _interactions(self, items_moved: bool) -> None:
        """Part and write the interactions, unless they and the items that they may name are those of last night."""
        table, columns, split = self.inputs.interactions, self.settings.inputs.interactions, self.settings.split
        if self._kept("interactions", table.rows, "interactions" in self._same and not items_moved):
            assert self.previous is not None
            self.split = self.previous.details.get("split", {})
            return
        catalog = self.store.read(self.spark, "catalog", self.writes["catalog"])
        judged = judged_interactions(
            read_source(self.spark, Source(table, {})),
            catalog.where("status = 'active'"),
            user=inner_name(columns.user),
            item=inner_name(columns.item),
            weight=columns.weight and inner_name(columns.weight),
            time=columns.time and inner_name(columns.time),
            split=inner_name(split.column) if split.method == "column" else None,
        )
        judged = self._stage(judged, "interactions")
        good, cuts = parted(judged.where("reason is null"), split, self.settings.seed)
        self._write_judged(judged, good, "interactions", "interaction", table.rows)
        settled = self.store.read(self.spark, "interactions", self.writes["interactions"])
        self.split = split_facts(settled, self.settings, cuts)

    def _blocks(self, items_moved: bool) -> None:
        """Write what single users are never to be recommended, where the input has it."""
        table, columns = self.inputs.blocks, self.settings.inputs.blocks
        if table is None:
            return
        settled = not items_moved and {"users", "interactions", "blocks"} <= self._same
        if self._kept("blocks", table.rows, settled):
            return
        stored = lambda name: self.store.read(self.spark, name, self.writes[name])  # noqa: E731
        users = stored("users").select("user_id").union(stored("interactions").select("user_id")).distinct()
        items = stored("catalog").where("status = 'active'")
        source = read_source(self.spark, Source(table, {}))
        judged = judged_blocks(source, items, users, user=inner_name(columns.user), item=inner_name(columns.item))
        judged = self._stage(judged, "blocks")
        self._write_judged(judged, judged.where("reason is null"), "blocks", "block", table.rows)

    def _kept(self, name: str, rows: int, same: bool) -> bool:
        """Keep last night's version of a table where it would be written the same."""
        if not same or self.previous is None:
            return False
        self.writes[name] = self.previous.writes[name]
        if rows:
            self.ledgers[name] = Ledger(rows_in=rows, skipped=rows)
        return True

    def _write_judged(self, judged: DataFrame, good: DataFrame, name: str, entity: str, rows: int) -> None:
        refused = judged.where("reason is not null")
        written = self._write(good, name)
        self._ledger(name, rows, written.rows, count_reasons(refused))
        if self.ledgers[name].quarantined:
            ids = [column for column in ("item_id", "user_id") if column in judged.columns]
            known = {column: F.col(column) for column in ids}
            self._refuse(refused, entity, reason=F.col("reason"), **known)

    # Counts and refusals ---------------------------------------------------------------------------------------

    def _ledger(self, what: str, rows_in: int, rows_out: int, reasons: dict[str, int]) -> None:
        ledger = Ledger(rows_in=rows_in, rows_out=rows_out, quarantined={r: n for r, n in reasons.items() if n})
        ledger.check(f"{STAGE}.{what}")
        self.ledgers[what] = ledger

    def _refuse(self, rows: DataFrame, entity: str, note: str = "", /, **values: F.Column) -> None:
        detail = F.format_string(f"row %d of %s{note}", "row", "file")
        date, run = self.context.date, self.context.run_id
        refused = quarantine_rows(rows, date=date, run_id=run, stage=STAGE, entity=entity, detail=detail, **values)
        self._refused.append(refused)

    def _nothing_refused(self) -> DataFrame:
        return self.store.read(self.spark, "quarantine").limit(0)
