"""One night's ingest: writes item_rows, catalog, users, interactions, history and blocks, and the quarantine last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from crossweave.errors import BudgetExceededError, ReconciliationError
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.stage import StageContext
from crossweave.stages.ingest.books import Books
from crossweave.stages.ingest.inputs import Inputs, item_columns
from crossweave.stages.ingest.judging import (
    COUNTED,
    MENDS,
    Groups,
    check_events,
    check_ids,
    event_notes,
    few_users_known,
    rows_of,
    side_of,
)
from crossweave.stages.ingest.parting import parted, split_facts
from crossweave.tables.catalog import new_catalog
from crossweave.tables.events import EventColumns, judged_blocks, judged_interactions, judged_users
from crossweave.tables.history import events_in, pairs_of
from crossweave.tables.item_gaps import item_gaps
from crossweave.tables.item_rows import EMPTY, LastNight, item_rows
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.receipt_details import Ingested
from crossweave.tables.receipts import Receipt
from crossweave.tables.refusals import group_by_reason
from crossweave.tables.snapshot import Snapshot
from crossweave.tables.source import Source, read_source
from crossweave.tables.splits import is_drawn
from crossweave.tables.times import latest_event
from crossweave.tables.values import NOT_UTF8

REFUSED_ROWS = (NOT_UTF8, "null_id", "duplicate_id")
REFUSED_CELLS = (NOT_UTF8, EMPTY)
TABLES = ("item_rows", "catalog", "users", "interactions", "history", "blocks", "quarantine")


class Night:
    """One night's ingest: what it commits, refuses and counts."""

    def __init__(
        self,
        context: StageContext,
        inputs: Inputs,
        previous: Receipt[Ingested] | None,
        prints: Mapping[str, str],
        record: StageRecord,
    ) -> None:
        self.context, self.settings, self.inputs, self.previous = context, context.settings, inputs, previous
        self.prints = prints
        self.spark: SparkSession = context.spark
        self.store = context.tables
        self.staging = context.staging
        self.books = Books(context, record)
        self.metrics: dict[str, float] = {}
        self.writes: dict[str, int] = {}
        self.split: dict[str, Any] = {}  # how the interactions are parted
        named = previous.writes if previous is not None else {}
        # What tonight's commits follow; a table that the last receipt names must be there.
        self._heads = {n: self.store.required(n) if n in named else self.store.snapshot(n) for n in TABLES}
        done = previous.details.prints if previous is not None else {}
        same = {name for name, value in prints.items() if done.get(name) == value}
        self._same = same if "code" in same else set()
        stamps = inputs.items.table.stamps
        before = previous.details.files if previous is not None and "scan" in self._same else {}
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
            self.books.quarantine(self._heads["quarantine"], f"{once}:refused")
            raise
        self.writes["quarantine"] = self.books.quarantine(self._heads["quarantine"], once)

    def details(self) -> Ingested:
        """Return what the receipt tells of this night."""
        items, interactions = self.settings.inputs.items, self.settings.inputs.interactions
        kind = lambda source, column: "integer" if source.is_integer(column) else "string"  # noqa: E731
        return Ingested(
            id_types={
                "item": kind(self.inputs.items, items.id),
                "user": kind(self.inputs.interactions, interactions.user),
            },
            refused_by=self.books.refused_by,
            repeated_ids=self.books.ledgers["items"].quarantined.get("duplicate_id", 0),
            prints=dict(self.prints),
            split=self.split
            | {
                "protocol": self.settings.split.protocol,
                "cold_items": self.metrics["items_cold"],
                "cold_items_share": self.settings.split.cold_items,
            },
            files=dict(self.inputs.items.table.stamps),
        )

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
        columns, table = item_columns(self.settings), self.inputs.items.table
        changed = sorted(set(table.stamps) - self.unchanged)
        if changed and (columns.updated_at or columns.cold):
            self.books.notes += item_gaps(read_source(self.spark, self.inputs.items, changed), columns)
        rows = item_rows(self.spark, self.inputs.items, columns, self.last, self.unchanged, self._stage)
        cells = F.map_values("cells")
        accepted = F.col("refused").isNull()
        counts = Observation("item_rows")
        observed = rows.observe(
            counts,
            F.count(F.when(accepted, 1)).alias("accepted"),
            *[F.count(F.when(F.col("refused") == reason, 1)).alias(reason) for reason in REFUSED_ROWS],
            F.coalesce(F.sum(F.when(accepted, F.size(cells))), F.lit(0)).alias("cells"),
            *[_cells_refused(cells, accepted, reason).alias(f"cells_{reason}") for reason in REFUSED_CELLS],
        )
        version = self._write(observed, "item_rows", table.rows).version
        seen = counts.get
        stored = self.store.read(self.spark, "item_rows", version)
        self.books.ledger("items", table.rows, seen["accepted"], {r: seen[r] for r in REFUSED_ROWS})
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
        self.books.ledger("contents", seen["cells"], found["contents"], {r: seen[f"cells_{r}"] for r in REFUSED_CELLS})
        self._refuse_contents(stored)
        self.metrics = {
            "items_new_or_changed": found["changed"],
            "items_removed": found["removed"],
            "items_cold": found["cold"],
            "item_files_read": len(table.files) - len(self.unchanged),
        }
        return bool(found["moved"])

    def _judge_items(self, rows: DataFrame) -> None:
        if self.books.ledgers["items"].quarantined:
            unread = F.when(F.col("refused") == NOT_UTF8, "its id, title or an attribute is text in another encoding")
            named = rows.withColumn("reason", F.col("refused")).withColumn("said", unread)
            wrong = named.where("reason is not null")
            self.books.refuse(wrong, "item", reason=F.col("reason"), item_id=F.col("item_id"))
            self.books.judge("items", group_by_reason(named))

    def _refuse_contents(self, rows: DataFrame) -> None:
        if self.books.ledgers["contents"].quarantined:
            cells = rows.where("refused is null").select(
                "item_id", "file", "row", F.explode("cells").alias("modality", "cell")
            )
            why = F.when(F.col("cell.refused") == NOT_UTF8, f"it holds {MENDS[NOT_UTF8]}")
            self.books.refuse(
                cells.where("cell.refused is not null").withColumn(
                    "said", why.otherwise("it holds an empty value; null means missing")
                ),
                "item",
                reason=F.col("cell.refused"),
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
        groups = self.books.judge_rows(judged, "users", "user", group_by_reason(judged))
        self._write_good(judged.where("reason is null"), "users", groups)

    def _interactions(self, items_moved: bool) -> None:
        """Part and write the interactions, unless they and the items that they may name are those of last night."""
        source, given, split = self.inputs.interactions, self.settings.inputs.interactions, self.settings.split
        if self._kept("interactions", source.table.rows, "interactions" in self._same and not items_moved):
            assert self.previous is not None
            self.split = self.previous.details.split
            self.writes["history"] = self.previous.writes["history"]
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
        self.books.judge_rows(judged, "interactions", "interaction", groups, lacking)
        self.books.notes += event_notes(groups, self.settings)
        good, cuts = parted(judged.where("reason is null"), split, self.settings.seed)
        self._write_good(good, "interactions", groups)
        self.split = split_facts(self._stored("interactions"), self.settings, cuts)
        self._history(rows_of(groups, None))
        self._compare_users()

    def _history(self, interactions: int) -> None:
        """Write the pairs of so many interactions, each of which is in one of them."""
        self._write(pairs_of(self._stored("interactions")), "history")
        held = events_in(self._stored("history"))
        if held != interactions:
            raise ReconciliationError(f"table history stands for {held} interactions, {interactions} were counted")

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
        self.books.judge_rows(judged, "blocks", "block", groups, lacking)
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
            self.books.warnings.append(f"{warning}: {words}")

    def _stored(self, name: str) -> DataFrame:
        """Return tonight's version of a table."""
        return self.store.read(self.spark, name, self.writes[name])

    def _kept(self, name: str, rows: int, same: bool) -> bool:
        """Keep last night's version of a table where it would be written the same."""
        if not same or self.previous is None:
            return False
        self.writes[name] = self.previous.writes[name]
        if rows:
            self.books.ledgers[name] = Ledger(rows_in=rows, skipped=rows)
        return True

    def _write_good(self, good: DataFrame, name: str, groups: Groups) -> None:
        self._write(good, name, rows_of(groups, None))


def _cells_refused(cells: Column, accepted: Column, reason: str) -> Column:
    found = F.size(F.filter(cells, lambda cell: cell["refused"] == reason))
    return F.coalesce(F.sum(F.when(accepted, found)), F.lit(0))
