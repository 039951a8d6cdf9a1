"""Ingest: checks the input tables, hashes every content, parts the interactions, commits the catalog.

A table whose files and settings are those of the last complete run keeps its version; of the items table only the
files that changed are read.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from crossweave.config import Settings
from crossweave.errors import BudgetExceededError, ReconciliationError
from crossweave.runtime.record import Ledger, PlanLine, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.stages.ingest.judging import (
    COUNTED,
    Groups,
    check_budget,
    check_events,
    check_ids,
    event_notes,
    few_users_known,
    refusal_warnings,
    rows_of,
    side_of,
)
from crossweave.stages.ingest.parting import parted, split_facts
from crossweave.storage.records import digest
from crossweave.tables.catalog import new_catalog
from crossweave.tables.contract import ANY, FLAG, ID, KIND_COLUMNS, NUMBER, TEXT, TIME, ColumnType, wanted_columns
from crossweave.tables.events import EventColumns, judged_blocks, judged_interactions, judged_users
from crossweave.tables.footers import InputTable
from crossweave.tables.item_gaps import item_gaps
from crossweave.tables.item_rows import ItemColumns, LastNight, count_changed, item_rows
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.quarantine import last_run, quarantine_rows
from crossweave.tables.receipts import Receipt
from crossweave.tables.refusals import group_by_reason, refused
from crossweave.tables.source import Source, check_source, read_source
from crossweave.tables.splits import is_drawn
from crossweave.tables.store import Snapshot
from crossweave.tables.times import latest_event

STAGE = "ingest"
TABLES = ("item_rows", "catalog", "users", "interactions", "blocks", "quarantine")
CODE_VERSION = 3  # of the tables' meaning; a change makes the next night ingest everything anew


@dataclass(frozen=True)
class Inputs:
    """The input tables that passed their checks."""

    items: Source
    interactions: Source
    users: Source | None
    blocks: Source | None

    @property
    def tables(self) -> list[InputTable]:
        """All of them."""
        return [s.table for s in (self.items, self.interactions, self.users, self.blocks) if s is not None]

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
    receipts = context.receipts
    previous = receipts.latest(STAGE)
    prints = _prints(settings, inputs, context.date)
    fingerprint = digest(prints)
    if previous is not None and previous.fingerprint == fingerprint:
        record.nothing_to_do(previous.rows, previous.writes, "the input files are those of the last run")
        record.facts = {"split": previous.details.get("split", {}) | {"protocol": settings.split.protocol}}
        return
    night = _Night(context, inputs, previous, prints)
    try:
        night.run(f"{STAGE}:{fingerprint}:{previous.run_id if previous else ''}")
    finally:
        night.staging.remove()
        record.ledgers = night.ledgers
        record.notes += night.notes
        record.warnings += night.warnings
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
    previous = context.receipts.latest(STAGE)
    prints = _prints(context.settings, inputs, context.date)
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

    def checked(name: str, given: Any, columns: Sequence[tuple[str | None, ColumnType]]) -> Source:
        return check_source(lambda: context.spark, name, given.path, wanted_columns(columns), given.derived)

    return Inputs(
        checked("items", items, item_columns),
        checked("interactions", interactions, event_columns),
        checked("users", users, user_columns) if users.path else None,
        checked("blocks", blocks, block_columns) if blocks.path else None,
    )


def _item_columns(settings: Settings) -> ItemColumns:
    items = settings.inputs.items
    modalities = {name: (m.kind, tuple(m.columns)) for name, m in settings.modalities.items()}
    return ItemColumns(
        items.id, items.title, items.cold_column, items.attributes, items.updated_at, modalities, items.time_unit
    )


def _prints(settings: Settings, inputs: Inputs, date: datetime.date) -> dict[str, str]:
    """Return what decides each table: `scan` the meaning of an item row, the others their files and settings.

    The date's year decides which times lie too far ahead.
    """
    year = latest_event(date).year
    given, modalities = settings.inputs, {n: [m.kind, m.columns] for n, m in settings.modalities.items()}
    items = inputs.items.table
    split = settings.split.model_dump(mode="json", exclude={"protocol", "cold_items"})
    cold = digest([settings.split.cold_items, settings.seed]) if settings.split.cold_items else None
    blocks = [inputs.blocks.table.fingerprint, given.blocks.model_dump(mode="json")] if inputs.blocks else None
    return (
        {
            "code": str(CODE_VERSION),
            "scan": digest([str(items.root), given.items.model_dump(mode="json"), modalities, items.types]),
            "items": items.fingerprint,
            "interactions": digest(
                [
                    inputs.interactions.table.fingerprint,
                    given.interactions.model_dump(mode="json"),
                    split,
                    settings.seed,
                    year,
                ]
            ),
            "users": digest(
                [inputs.users.table.fingerprint if inputs.users else None, given.users.model_dump(mode="json")]
            ),
        }
        | ({"blocks": digest(blocks)} if blocks else {})
        | ({"cold": cold} if cold else {})
    )


class _Night:
    """One night's ingest: what it commits, refuses and counts."""

    def __init__(self, context: StageContext, inputs: Inputs, previous: Receipt | None, prints: dict[str, str]) -> None:
        self.context, self.settings, self.inputs, self.previous = context, context.settings, inputs, previous
        self.spark: SparkSession = context.spark
        self.store = context.tables
        self.staging = context.staging
        self.ledgers: dict[str, Ledger] = {}
        self.metrics: dict[str, float] = {}
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.writes: dict[str, int] = {}
        self.refused_by = context.run_id  # the run that tonight's quarantine rows carry
        self.split: dict[str, Any] = {}  # how the interactions are parted, for the run record
        named = previous.writes if previous is not None else {}
        # What tonight's commits follow; a table that the last receipt names must be there.
        self._heads = {n: self.store.required(n) if n in named else self.store.snapshot(n) for n in TABLES}
        self._refused: list[DataFrame] = []
        done = previous.details.get("prints", {}) if previous is not None else {}
        same = {name for name, value in prints.items() if done.get(name) == value}
        self._same = same if "code" in same else set()
        stamps = inputs.items.table.stamps
        before = previous.details.get("files", {}) if previous is not None and "scan" in self._same else {}
        self.unchanged = {file for file, stamp in stamps.items() if before.get(file) == stamp}
        self.last = self._last_night()

    def run(self, once: str) -> None:
        """Write every table; refused rows go to the quarantine under the key `once`.

        Raises BudgetExceededError where too many rows of a table are refused: the quarantine has them, and no receipt
        names any of tonight's tables.
        """
        try:
            moved = self._items()
            self._users()
            self._interactions(moved)
            self._blocks(moved)
        except BudgetExceededError:
            self._quarantine(f"{once}:refused")
            raise
        self._quarantine(once)

    def _quarantine(self, once: str) -> None:
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
        changed = sorted(set(table.stamps) - self.unchanged)
        if changed and (columns.updated_at or columns.cold):
            self.notes += item_gaps(read_source(self.spark, self.inputs.items, changed), columns)
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
        self._judge_items(stored)
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
        self._refuse_contents(stored)
        self.metrics = {
            "items_new_or_changed": found["changed"],
            "items_removed": found["removed"],
            "items_cold": found["cold"],
            "item_files_read": len(table.files) - len(self.unchanged),
        }
        return bool(found["moved"])

    def _judge_items(self, rows: DataFrame) -> None:
        if self.ledgers["items"].quarantined:
            named = rows.withColumn("reason", F.col("refused"))
            wrong = named.where("reason is not null")
            self._refuse(wrong, "item", reason=F.col("reason"), item_id=F.col("item_id"))
            self._judge("items", group_by_reason(named))

    def _refuse_contents(self, rows: DataFrame) -> None:
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
        if self._kept("users", self.inputs.users.table.rows if self.inputs.users else 0, "users" in self._same):
            return
        if self.inputs.users is None:
            self._write(self.spark.createDataFrame([], "user_id string, attributes map<string, string>"), "users")
            return
        users = self.settings.inputs.users
        source = read_source(self.spark, self.inputs.users)
        judged = self._stage(judged_users(source, users.id, users.attributes), "users")
        groups = self._judge_rows(judged, "users", "user", group_by_reason(judged))
        self._write_good(judged.where("reason is null"), "users", groups)

    def _interactions(self, items_moved: bool) -> None:
        """Part and write the interactions, unless they and the items that they may name are those of last night."""
        source, given, split = self.inputs.interactions, self.settings.inputs.interactions, self.settings.split
        if self._kept("interactions", source.table.rows, "interactions" in self._same and not items_moved):
            assert self.previous is not None
            self.split = self.previous.details.get("split", {})
            if "users" not in self._same:
                self._compare_users()
            return
        items = self._stored("catalog").where("status = 'active'")
        rows = read_source(self.spark, source)
        columns = EventColumns(
            given.user,
            given.item,
            given.weight,
            given.missing_weight,
            given.time,
            given.time_unit,
            split.column if split.method == "column" else None,
        )
        judged = judged_interactions(rows, items, columns, latest_event(self.context.date))
        judged = self._stage(judged, "interactions")
        groups = group_by_reason(judged, **COUNTED)
        lacking = self._lacking_items(judged, groups, source, given.item)
        check_events(groups, self.settings, lambda: rows)
        self._judge_rows(judged, "interactions", "interaction", groups, lacking)
        self.notes += event_notes(groups, self.settings)
        good, cuts = parted(judged.where("reason is null"), split, self.settings.seed)
        self._write_good(good, "interactions", groups)
        self.split = split_facts(self._stored("interactions"), self.settings, cuts)
        self._compare_users()

    def _blocks(self, items_moved: bool) -> None:
        """Write what single users are never to be recommended, where the input has it."""
        source, given = self.inputs.blocks, self.settings.inputs.blocks
        if source is None:
            return
        settled = not items_moved and {"users", "interactions", "blocks"} <= self._same
        if self._kept("blocks", source.table.rows, settled):
            return
        users = self._stored("users").select("user_id").union(self._stored("interactions").select("user_id")).distinct()
        items = self._stored("catalog").where("status = 'active'")
        rows = read_source(self.spark, source)
        judged = self._stage(judged_blocks(rows, items, users, user=given.user, item=given.item), "blocks")
        groups = group_by_reason(judged)
        lacking = self._lacking_items(judged, groups, source, given.item)
        strangers = judged.where("reason = 'unknown_user'").select(F.col("user_id").alias("id"))
        mine = side_of(source, strangers, "user", given.user)
        other = side_of(self.inputs.interactions, users.select(F.col("user_id").alias("id")), "user", self._user_column)
        of = sum(group.rows for reason, group in groups.items() if reason in (None, "unknown_user"))
        lacking = lacking or check_ids(mine, other, rows_of(groups, "unknown_user"), of, self._few)
        self._judge_rows(judged, "blocks", "block", groups, lacking)
        self._write_good(judged.where("reason is null"), "blocks", groups)

    @property
    def _few(self) -> int:
        return self.settings.ingest.min_refused_count

    @property
    def _user_column(self) -> str:
        return self.settings.inputs.interactions.user

    def _lacking_items(self, judged: DataFrame, groups: Groups, source: Source, column: str) -> str:
        """Say how the ids that name no item look beside the items'; raises InputContractError where none names one."""
        items = self._stored("catalog").where("status = 'active'").select(F.col("item_id").alias("id"))
        strangers = judged.where("reason = 'unknown_item'").select(F.col("item_id").alias("id"))
        mine = side_of(source, strangers, "item", column)
        other = side_of(self.inputs.items, items, "id", self.settings.inputs.items.id)
        named = sum(group.rows for reason, group in groups.items() if reason != "null_id")
        return check_ids(mine, other, rows_of(groups, "unknown_item"), named, self._few)

    def _compare_users(self) -> None:
        """Warn where few users of the interactions stand in the users table; raises InputContractError for none."""
        if self.inputs.users is None:
            return
        users = self._stored("users").select("user_id", F.lit(True).alias("known"))
        met = self._stored("interactions").select("user_id").distinct().join(users, "user_id", "left")
        of, known = met.agg(F.count("user_id"), F.count("known")).collect()[0]
        warning = few_users_known(known, of)
        if not warning:
            return
        strangers = met.where("known is null").select(F.col("user_id").alias("id"))
        mine = side_of(self.inputs.interactions, strangers, "user", self._user_column)
        described = users.select(F.col("user_id").alias("id"))
        other = side_of(self.inputs.users, described, "id", self.settings.inputs.users.id)
        words = check_ids(mine, other, of - known, of, self._few)
        if words:  # an empty users table describes nobody, and says so by itself
            self.warnings.append(f"{warning}: {words}")

    def _stored(self, name: str) -> DataFrame:
        """Return tonight's version of a table."""
        return self.store.read(self.spark, name, self.writes[name])

    def _kept(self, name: str, rows: int, same: bool) -> bool:
        """Keep last night's version of a table where it would be written the same."""
        if not same or self.previous is None:
            return False
        self.writes[name] = self.previous.writes[name]
        if rows:
            self.ledgers[name] = Ledger(rows_in=rows, skipped=rows)
        return True

    def _write_good(self, good: DataFrame, name: str, groups: Groups) -> None:
        self._write(good, name, rows_of(groups, None))

    # Counts and refusals ---------------------------------------------------------------------------------------

    def _ledger(self, what: str, rows_in: int, rows_out: int, reasons: dict[str, int]) -> None:
        ledger = Ledger(rows_in=rows_in, rows_out=rows_out, quarantined={r: n for r, n in reasons.items() if n})
        ledger.check(f"{STAGE}.{what}")
        self.ledgers[what] = ledger

    def _judge_rows(self, judged: DataFrame, name: str, entity: str, groups: Groups, hint: str = "") -> Groups:
        """Count a judged table, quarantine what it refuses, and judge how much that is."""
        reasons = {reason: group.rows for reason, group in refused(groups).items()}
        self._ledger(name, sum(group.rows for group in groups.values()), rows_of(groups, None), reasons)
        if reasons:
            known = {column: F.col(column) for column in ("item_id", "user_id") if column in judged.columns}
            self._refuse(judged.where("reason is not null"), entity, reason=F.col("reason"), **known)
        self._judge(name, groups, hint)
        return groups

    def _judge(self, name: str, groups: Groups, hint: str = "") -> None:
        self.warnings += refusal_warnings(name, groups, hint)
        check_budget(name, groups, self.settings, hint)

    def _refuse(self, rows: DataFrame, entity: str, note: str = "", /, **values: F.Column) -> None:
        detail = F.format_string(f"row %d of %s{note}", "row", "file")
        if "said" in rows.columns:
            detail = F.concat_ws(": ", detail, "said")
        date, run = self.context.date, self.context.run_id
        refused = quarantine_rows(rows, date=date, run_id=run, stage=STAGE, entity=entity, detail=detail, **values)
        self._refused.append(refused)

    def _nothing_refused(self) -> DataFrame:
        return self.store.read(self.spark, "quarantine").limit(0)
