"""Embed: gives every content of the catalog a vector, encoding only those that have none, each once.

wanted = distinct content hashes of the catalog in a modality; have = those in the feature table of that modality
and encoder fingerprint, or known to fail under it; encoded = wanted − have.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from crossweave.config import Settings
from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.batching import encode_values
from crossweave.errors import BudgetExceededError, ReconciliationError, SettingsError
from crossweave.runtime.record import Ledger, PlanLine, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.runtime.spark_progress import task_progress
from crossweave.tables.content import content_hash, content_value
from crossweave.tables.contract import InputTable, preflight
from crossweave.tables.feature_writer import FAILURES, WRITTEN, FeatureWriter
from crossweave.tables.files import digest
from crossweave.tables.quarantine import quarantine_rows
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.schema import feature_table
from crossweave.tables.store import TableStore
from crossweave.tables.vectors import LARGEST

STAGE = "embed"
BROADCAST_ROWS = 2_000_000  # contents to encode up to here travel to the scan; above, the payloads are shuffled
SPREAD_ROWS = 100_000  # contents up to here are dealt out evenly to the tasks, whatever the input's row groups


def build_encoders(settings: Settings) -> dict[str, Encoder]:
    """Build every modality's encoder without loading weights; raises SettingsError for a bad name or setting."""
    return {
        name: make_encoder(modality.kind, spec.type, spec.own)
        for name, modality in settings.modalities.items()
        for spec in [settings.encoders[modality.encoder]]
    }


def embed_items(context: StageContext, record: StageRecord) -> None:
    """Encode what the catalog has and the feature tables lack.

    Appends to one feature table a (modality, encoder fingerprint) and to quarantine.
    Raises BudgetExceededError where more contents of a modality fail than the settings allow.
    """
    settings = context.settings
    receipts = Receipts(context.workspace)
    ingest = receipts.required("ingest")
    catalog_version = ingest.writes["catalog"]
    encoders = build_encoders(settings)
    prints = {name: encoder.fingerprint for name, encoder in encoders.items()}
    fingerprint = digest({"catalog": catalog_version, "encoders": prints, "budget": settings.embed.max_bad_fraction})
    last = receipts.latest(STAGE)
    record.reads = {"catalog": catalog_version}
    if last is not None and last.fingerprint == fingerprint and not settings.embed.retry_failed:
        record.nothing_to_do(last.rows, record.reads, "0 contents to encode, no model loaded")
        record.metrics = {f"{name}.encoded": 0 for name in encoders}
        return

    store = TableStore(context.workspace / "tables")
    catalog = store.read(context.spark, "catalog", catalog_version).where("status = 'active'")
    details: dict[str, object] = {}
    over_budget: list[str] = []
    for name, encoder in encoders.items():
        work = _Modality(context, store, name, encoder, catalog, bool(ingest.details["repeated_ids"]))
        work.run()
        record.ledgers[name] = work.ledger
        record.metrics |= {f"{name}.{key}": value for key, value in work.metrics.items()}
        over_budget += work.over_budget
        record.writes |= work.writes
        details[name] = {"table": work.table, "fingerprint": encoder.fingerprint, "dim": encoder.dim}
    record.check()
    if over_budget:
        raise BudgetExceededError(
            "too many contents cannot be encoded: " + "; ".join(over_budget),
            "the quarantine table names each; mend the media, or raise embed.max_bad_fraction",
        )
    encoded = sum(int(record.metrics[f"{name}.encoded"]) for name in encoders)
    record.note = f"{encoded:,} contents encoded"
    record.noop = encoded == 0
    receipts.publish(
        Receipt(STAGE, fingerprint, context.run_id, record.reads, record.writes, record.total.rows_in, details)
    )


def plan_embed(context: StageContext, changed: dict[str, int] | None) -> list[PlanLine]:
    """Say how many contents each modality would encode; `changed` counts what an ingest before it would bring.

    Exact where nothing changed; else an upper bound, since equal contents are encoded once.
    """
    receipts, encoders = Receipts(context.workspace), build_encoders(context.settings)
    ingest = receipts.latest("ingest")
    store = TableStore(context.workspace / "tables")
    lines = []
    for name, encoder in encoders.items():
        count = 0
        if ingest is not None:
            catalog = store.read(context.spark, "catalog", ingest.writes["catalog"]).where("status = 'active'")
            count = _Modality(context, store, name, encoder, catalog, False).count_wanted()
        bound = "" if changed is None else "at most "
        total = count + (changed or {}).get(name, 0)
        what = f"{bound if total else ''}{total:,} contents to encode with {encoder.name} ({encoder.dim} numbers each)"
        lines.append(PlanLine(f"{STAGE} {name}", total > 0, what))
    return lines


class _Modality:
    """One modality's share of the stage."""

    def __init__(
        self,
        context: StageContext,
        store: TableStore,
        name: str,
        encoder: Encoder,
        catalog: DataFrame,
        repeated_ids: bool,
    ) -> None:
        self.context, self.settings, self.store = context, context.settings, store
        self.name, self.encoder = name, encoder
        self.table = feature_table(name, encoder.fingerprint)
        self.repeated_ids = repeated_ids
        self.spark: SparkSession = context.spark
        # One row an item that has this modality: the unit of the ledger.
        self.cells = catalog.select("item_id", F.try_element_at("hashes", F.lit(name))["content"].alias("content_hash"))
        self.cells = self.cells.where(F.col("content_hash").isNotNull())
        self.ledger = Ledger()
        self.metrics: dict[str, float] = {}
        self.writes: dict[str, int] = {}
        self.over_budget: list[str] = []

    def run(self) -> None:
        """Encode this modality's missing contents, commit them, then the failures."""
        wanted = self._wanted().cache()
        try:
            count = wanted.count()
            failures = self._encode(wanted, count) if count else self._no_failures()
            self._settle(wanted, count, failures)
        finally:
            wanted.unpersist()

    def count_wanted(self) -> int:
        """Count the contents that have no vector yet."""
        return self._wanted().count()

    def _wanted(self) -> DataFrame:
        """Return the contents to encode, each with the first item that has it: content_hash, item_id."""
        have = self.store.read(self.spark, self.table).select("content_hash")
        contents = self.cells.groupBy("content_hash").agg(F.min("item_id").alias("item_id"))
        wanted = contents.join(have, "content_hash", "left_anti")
        if not self.settings.embed.retry_failed:
            wanted = wanted.join(self._known_failures(), "content_hash", "left_anti")
        return wanted

    def _known_failures(self) -> DataFrame:
        quarantine = self.store.read(self.spark, "quarantine")
        mine = (F.col("stage") == STAGE) & (F.col("encoder") == self.encoder.fingerprint) & ~F.col("transient")
        return quarantine.where(mine & (F.col("modality") == self.name)).select("content_hash").distinct()

    def _encode(self, wanted: DataFrame, count: int) -> DataFrame:
        """Encode and commit; returns the failures as content_hash, reason, detail, transient."""
        modality = self.settings.modalities[self.name]
        source = preflight("items", self.settings.inputs.items.path, {})
        value = content_value(modality.kind, modality.columns)
        rows = self._payloads(source, wanted, count).select(
            "content_hash", value.alias("value"), content_hash(modality.kind, value).alias("actual")
        )
        rows = rows.where("actual = content_hash").select("content_hash", "value")
        if self.repeated_ids:  # two rows of one id may hold the same content
            rows = rows.dropDuplicates(["content_hash"])
        folder = self.store.fresh_folder(self.table)
        task = _Task(self.encoder, folder, self.context.date, self.settings.embed.device)
        progress = self.context.progress(f"embed {self.name}", count, "contents")
        with task_progress(self.spark, progress, count):
            written = rows.mapInArrow(lambda b: _encode_partition(task, b), from_arrow_schema(WRITTEN)).collect()
        progress.close(count)
        files = {kind: [r for r in written if r["kind"] == kind] for kind in ("vectors", "failures")}
        base = self.store.snapshot(self.table)
        if files["vectors"] or base is None:
            base = self.store.commit(
                self.table,
                sorted(folder / "vectors" / r["file"] for r in files["vectors"]),
                "append",
                base=base.version if base else None,
                properties=self._properties(),
                expected_rows=sum(r["rows"] for r in files["vectors"]),
            )
        done = sum(r["rows"] for r in written)
        if done > count:
            raise ReconciliationError(f"{self.name}: {count} contents were to be encoded, {done} came back")
        self.writes[self.table] = base.version
        paths = [str(folder / "failures" / r["file"]) for r in files["failures"]]
        refused = self.spark.read.schema(from_arrow_schema(FAILURES)).parquet(*paths) if paths else self._no_failures()
        return refused if done == count else self._with_vanished(wanted, refused)

    def _no_failures(self) -> DataFrame:
        return self.spark.createDataFrame([], from_arrow_schema(FAILURES))

    def _payloads(self, source: InputTable, wanted: DataFrame, count: int) -> DataFrame:
        """Join the wanted contents with the rows of the items table that carry them."""
        tasks = max(self.spark.sparkContext.defaultParallelism, -(-count // self.settings.embed.rows_per_task))
        size = sum(file.stat().st_size for file in source.files)
        self.spark.conf.set("spark.sql.files.maxPartitionBytes", max(1 << 20, size // tasks))
        items = self.spark.read.parquet(*[str(file) for file in source.files])
        self.spark.conf.unset("spark.sql.files.maxPartitionBytes")
        keys = wanted.select(F.col("item_id").alias("_item"), "content_hash")
        keys = F.broadcast(keys) if count <= BROADCAST_ROWS else keys
        rows = items.join(keys, F.col(self.settings.inputs.items.id).cast("string") == F.col("_item"))
        return rows.repartition(tasks) if count <= SPREAD_ROWS else rows

    def _with_vanished(self, wanted: DataFrame, refused: DataFrame) -> DataFrame:
        """Add the contents that the items table no longer holds as they were when it was ingested."""
        done = self.store.read(self.spark, self.table).select("content_hash")
        vanished = wanted.join(done, "content_hash", "left_anti").join(refused, "content_hash", "left_anti")
        return refused.unionByName(
            vanished.select(
                "content_hash",
                F.lit("changed_since_ingest").alias("reason"),
                F.lit("the input file changed after it was ingested; ingest again").alias("detail"),
                F.lit(True).alias("transient"),
            )
        )

    def _settle(self, wanted: DataFrame, count: int, failures: DataFrame) -> None:
        """Follow every cell in one query, write the quarantine and compare the failures with the budget."""
        done = self.store.read(self.spark, self.table).select("content_hash", F.lit(True).alias("done"))
        tried = wanted.select("content_hash", F.lit(True).alias("tried"))
        failed = self.cells.join(failures, "content_hash").cache()
        states = (
            self.cells.join(tried, "content_hash", "left")
            .join(failures.select("content_hash", "reason"), "content_hash", "left")
            .join(done, "content_hash", "left")
            .groupBy("tried", "reason", "done")
            .agg(F.count("*").alias("cells"), F.countDistinct("content_hash").alias("contents"))
            .collect()
        )
        ledger = self.ledger
        ledger.rows_in = sum(s["cells"] for s in states)
        ledger.skipped = sum(s["cells"] for s in states if not s["tried"])
        ledger.rows_out = sum(s["cells"] for s in states if s["tried"] and s["done"])
        ledger.quarantined = {s["reason"]: s["cells"] for s in states if s["reason"] is not None}
        broken = sum(s["contents"] for s in states if s["reason"] is not None)
        total = sum(s["contents"] for s in states)
        bad = sum(s["contents"] for s in states if not s["done"])
        self.metrics = {"encoded": count - broken, "failed": broken, "contents": total, "without_vector": bad}
        if broken:
            self._quarantine(failed)
        failed.unpersist()
        snapshot = self.store.snapshot(self.table)
        if snapshot is not None:
            self.writes[self.table] = snapshot.version
        budget = self.settings.embed
        if bad > budget.min_bad_count and bad > budget.max_bad_fraction * total:
            self.over_budget.append(self._worst(bad, total))

    def _quarantine(self, rows: DataFrame) -> None:
        head = self.store.snapshot("quarantine")
        frame = quarantine_rows(
            rows,
            date=self.context.date,
            stage=STAGE,
            entity="item",
            reason=F.col("reason"),
            detail=F.col("detail"),
            item_id=F.col("item_id"),
            modality=F.lit(self.name),
            content_hash=F.col("content_hash"),
            encoder=F.lit(self.encoder.fingerprint),
            transient=F.col("transient"),
        )
        written = self.store.write(frame, "quarantine", "append", base=head.version if head else None)
        self.writes["quarantine"] = written.version

    def _worst(self, bad: int, total: int) -> str:
        quarantine = self.store.read(self.spark, "quarantine")
        mine = quarantine.where((F.col("encoder") == self.encoder.fingerprint) & (F.col("modality") == self.name))
        rows = mine.join(self.cells.select("content_hash").distinct(), "content_hash", "left_semi")
        counts = rows.groupBy("reason").agg(F.countDistinct("content_hash").alias("n")).orderBy(F.desc("n")).limit(3)
        reasons = ", ".join(f"{row['reason']} {row['n']:,}" for row in counts.collect())
        return f"{self.name}: {bad:,} of {total:,} ({reasons})"

    def _properties(self) -> dict[str, str]:
        return {
            "modality": self.name,
            "encoder": self.encoder.name,
            "fingerprint": self.encoder.fingerprint,
            "dim": str(self.encoder.dim),
            "dtype": "float16",
        }


# On the workers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What a task needs to know; it travels to the workers by pickle."""

    encoder: Encoder
    folder: Path
    date: datetime.date
    device: str


OUT_OF_RANGE = ("out_of_range", f"a number of the vector is beyond ±{LARGEST:.0f}, what float16 can hold", False)
_LOADED: dict[str, Encoder] = {}
"""Encoders loaded in this worker process, by fingerprint: Spark reuses processes, a model is loaded once in each."""


def _encode_partition(task: _Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Encode one partition of (content_hash, value) and return which files hold the result."""
    writer = FeatureWriter(task.folder, task.encoder.dim, task.date)
    for batch in batches:
        hashes = batch.column(0).to_pylist()
        encoder = _loaded(task)
        vectors_BD, positions, failures = encode_values(encoder, batch.column(1).to_pylist())
        fits_B = np.abs(vectors_BD).max(axis=1, initial=0.0) <= LARGEST
        writer.vectors([hashes[p] for p, fits in zip(positions, fits_B, strict=True) if fits], vectors_BD[fits_B])
        rows = [(hashes[f.position], f.reason, f.detail, f.transient) for f in failures]
        rows += [(hashes[p], *OUT_OF_RANGE) for p, fits in zip(positions, fits_B, strict=True) if not fits]
        writer.failures(rows)
    yield writer.close()


def _loaded(task: _Task) -> Encoder:
    encoder = _LOADED.get(task.encoder.fingerprint)
    if encoder is None:
        import torch

        local = TaskContext.get()
        torch.set_num_threads(max(1, local.cpus() if local else 1))
        encoder = task.encoder
        encoder.load(_device(task.device, local))
        _LOADED[encoder.fingerprint] = encoder
    return encoder


def _device(wish: str, local: TaskContext | None) -> str:
    """Choose the device: the GPU that Spark assigned to this task, any GPU if it assigned none, else the CPU."""
    if wish == "cpu":
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        if wish == "cuda":
            raise SettingsError("embed.device=cuda, but torch sees no GPU on a worker", "use auto or cpu")
        return "cpu"
    assigned = local.resources().get("gpu") if local else None
    return f"cuda:{assigned.addresses[0]}" if assigned else "cuda:0"
