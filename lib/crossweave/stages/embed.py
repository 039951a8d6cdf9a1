"""Embed: gives every content of the catalog a vector, encoding only those that have none, each once.

wanted = distinct content hashes of the catalog in a modality; have = those in the feature table of that modality
and encoder fingerprint, or known to fail under it; encoded = wanted − have.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from crossweave.config import Settings
from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.worker import Encoded, Limits, encode_stream, usable_device
from crossweave.errors import BudgetExceededError, ReconciliationError
from crossweave.runtime.record import Ledger, PlanLine, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.runtime.spark_progress import task_progress
from crossweave.tables.contract import InputTable, preflight
from crossweave.tables.encoder_states import EncoderState, EncoderStates
from crossweave.tables.feature_writer import FAILURES, WRITTEN, FeatureWriter
from crossweave.tables.files import digest
from crossweave.tables.payloads import batch_rows, read_payloads, temporarily
from crossweave.tables.quarantine import quarantine_rows
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.schema import feature_table
from crossweave.tables.store import TableStore
from crossweave.tables.vectors import LARGEST

STAGE = "embed"


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
    last = receipts.latest(STAGE)
    record.reads = {"catalog": catalog_version}
    states = EncoderStates(context.workspace)
    known = [take_over(encoder, states.load(name, encoder.identity)) for name, encoder in encoders.items()]
    again = settings.embed.retry_failed or settings.embed.refit
    if all(known) and not again and last is not None and last.fingerprint == _fingerprint(context, ingest, encoders):
        record.nothing_to_do(last.rows, record.reads, "0 contents to encode, no model loaded")
        record.metrics = {f"{name}.encoded": 0 for name in encoders}
        return

    store = TableStore(context.workspace / "tables")
    catalog = store.read(context.spark, "catalog", catalog_version).where("status = 'active'")
    details: dict[str, object] = {}
    over_budget: list[str] = []
    for name, encoder in encoders.items():
        work = _Modality(context, store, name, encoder, catalog, bool(ingest.details["repeated_ids"]))
        work.prepare(states)
        work.run()
        record.ledgers[name] = work.ledger
        record.metrics |= {f"{name}.{key}": value for key, value in work.metrics.items()}
        over_budget += work.over_budget
        record.writes |= work.writes
        details[name] = {
            "table": work.table,
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "precision": encoder.precision,
        }
    record.check()
    if over_budget:
        raise BudgetExceededError(
            "too many contents cannot be encoded: " + "; ".join(over_budget),
            "the quarantine table names each; mend the media, or raise embed.max_bad_fraction",
        )
    encoded = sum(int(record.metrics[f"{name}.encoded"]) for name in encoders)
    record.note = f"{encoded:,} contents encoded"
    record.noop = encoded == 0
    fingerprint = _fingerprint(context, ingest, encoders)
    receipts.publish(
        Receipt(STAGE, fingerprint, context.run_id, record.reads, record.writes, record.total.rows_in, details)
    )


def _fingerprint(context: StageContext, ingest: Receipt, encoders: dict[str, Encoder]) -> str:
    prints = {name: encoder.fingerprint for name, encoder in encoders.items()}
    budget = context.settings.embed.max_bad_fraction
    return digest({"catalog": ingest.writes["catalog"], "encoders": prints, "budget": budget})


def take_over(encoder: Encoder, state: EncoderState) -> bool:
    """Give an encoder what earlier nights found out for it; False where it still has to be found out."""
    if state.learned is not None:
        encoder.restore(state.learned)
    if state.selftest is not None:
        encoder.settle(state.selftest["precision"], state.selftest["backend"])
    return not ((encoder.learns and state.learned is None) or (encoder.open_choices and state.selftest is None))


def plan_embed(context: StageContext, changed: dict[str, int] | None) -> list[PlanLine]:
    """Say how many contents each modality would encode; `changed` counts what an ingest before it would bring.

    Exact where nothing changed; else an upper bound, since equal contents are encoded once.
    """
    receipts, encoders = Receipts(context.workspace), build_encoders(context.settings)
    states = EncoderStates(context.workspace)
    ingest = receipts.latest("ingest")
    store = TableStore(context.workspace / "tables")
    lines = []
    for name, encoder in encoders.items():
        count = 0
        if ingest is not None:
            catalog = store.read(context.spark, "catalog", ingest.writes["catalog"]).where("status = 'active'")
            known = take_over(encoder, states.load(name, encoder.identity))
            count = _Modality(context, store, name, encoder, catalog, False).count_wanted(known)
        bound = "" if changed is None else "at most "
        total = count + (changed or {}).get(name, 0)
        what = f"{bound if total else ''}{total:,} contents to encode with {encoder.name}"
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
        self.modality = self.settings.modalities[name]
        self.repeated_ids = repeated_ids
        self.spark: SparkSession = context.spark
        # One row an item that has this modality: the unit of the ledger.
        self.cells = catalog.select("item_id", F.try_element_at("hashes", F.lit(name))["content"].alias("content_hash"))
        self.cells = self.cells.where(F.col("content_hash").isNotNull())
        self.ledger = Ledger()
        self.metrics: dict[str, float] = {}
        self.writes: dict[str, int] = {}
        self.over_budget: list[str] = []

    @property
    def table(self) -> str:
        """The feature table of this modality and its encoder."""
        return feature_table(self.name, self.encoder.fingerprint)

    def prepare(self, states: EncoderStates) -> None:
        """Fit and self-test the encoder on a sample of the catalog, where that is still to be done or asked for."""
        encoder, embed = self.encoder, self.settings.embed
        state = states.load(self.name, encoder.identity)
        if encoder.learns and (state.learned is None or embed.refit):
            sample, _ = self._sample(embed.fit_rows)
            encoder.fit(row["value"] for row in sample.collect())
            state = replace(state, learned=dict(encoder.learned))
            states.save(self.name, encoder.identity, state)
        if encoder.open_choices and state.selftest is None:
            sample, count = self._sample(embed.selftest_rows)
            if count == embed.selftest_rows:  # a handful of contents is not worth it, and would not be sure
                task = self._task(Path())
                one = sample.coalesce(1)
                verdict = self._run_on_workers(one, lambda b: _self_test(task, b), "verdict string")
                state = replace(state, selftest=json.loads(verdict[0]["verdict"]))
                states.save(self.name, encoder.identity, state)
        take_over(encoder, state)

    def run(self) -> None:
        """Encode this modality's missing contents, commit them, then the failures."""
        wanted = self._wanted().cache()
        try:
            count = wanted.count()
            failures = self._encode(wanted, count) if count else self._no_failures()
            self._settle(wanted, count, failures)
        finally:
            wanted.unpersist()

    def count_wanted(self, known: bool) -> int:
        """Count the contents that have no vector yet: all, where the encoder is not even fitted (`known` False)."""
        return (self._wanted() if known else self._contents()).count()

    def _contents(self) -> DataFrame:
        """Return the distinct contents, each with the first item that has it: content_hash, item_id."""
        return self.cells.groupBy("content_hash").agg(F.min("item_id").alias("item_id"))

    def _wanted(self) -> DataFrame:
        """Return the contents to encode, each with the first item that has it: content_hash, item_id."""
        have = self.store.read(self.spark, self.table).select("content_hash")
        wanted = self._contents().join(have, "content_hash", "left_anti")
        if not self.settings.embed.retry_failed:
            wanted = wanted.join(self._known_failures(), "content_hash", "left_anti")
        return wanted

    def _sample(self, most: int) -> tuple[DataFrame, int]:
        """Return (content_hash, value) of the contents with the lowest hashes, a fair draw, and how many they are."""
        rows = self._contents().orderBy("content_hash").limit(most).collect()
        wanted = self.spark.createDataFrame(rows, "content_hash string, item_id string")
        return self._rows(wanted, len(rows)).dropDuplicates(["content_hash"]).orderBy("content_hash"), len(rows)

    def _rows(self, wanted: DataFrame, count: int) -> DataFrame:
        """Return (content_hash, value) of the wanted contents, dealt out to as many tasks as they are worth."""
        source = self._source
        tasks = max(self.spark.sparkContext.defaultParallelism, -(-count // self.settings.embed.rows_per_task))
        kind, columns = self.modality.kind, self.modality.columns
        id_column = self.settings.inputs.items.id
        rows = read_payloads(self.spark, source.files, id_column, kind, columns, wanted, count, tasks)
        # Two rows of one id may hold the same content.
        return rows.dropDuplicates(["content_hash"]) if self.repeated_ids else rows

    @cached_property
    def _source(self) -> InputTable:
        return preflight("items", self.settings.inputs.items.path, {})

    def _run_on_workers(self, rows: DataFrame, work: Callable[..., Any], schema: Any) -> list[Row]:
        """Collect `mapInArrow` of rows that carry payloads, in batches that fit into memory however large those are."""
        most = batch_rows(self._source.files, self._source.rows, self.settings.embed.batch_rows)
        with temporarily(self.spark, "spark.sql.execution.arrow.maxRecordsPerBatch", most):
            return rows.mapInArrow(work, schema).collect()

    def _task(self, folder: Path) -> _Task:
        embed = self.settings.embed
        limits = Limits(embed.isolate_decoders, embed.item_seconds, embed.item_megabytes)
        return _Task(self.encoder, folder, self.context.date, embed.device, limits)

    def _known_failures(self) -> DataFrame:
        quarantine = self.store.read(self.spark, "quarantine")
        mine = (F.col("stage") == STAGE) & (F.col("encoder") == self.encoder.fingerprint) & ~F.col("transient")
        return quarantine.where(mine & (F.col("modality") == self.name)).select("content_hash").distinct()

    def _encode(self, wanted: DataFrame, count: int) -> DataFrame:
        """Encode and commit in rounds, so that a run that dies loses one; returns the failures of all of them."""
        rounds = -(-count // self.settings.embed.commit_contents)
        progress = self.context.progress(f"embed {self.name}", count, "contents")
        refused: list[DataFrame] = []
        done = 0
        for number in range(rounds):
            part, size = wanted, count
            if rounds > 1:
                part = wanted.where(F.pmod(F.xxhash64("content_hash"), F.lit(rounds)) == number)
                size = part.count()
            with task_progress(self.spark, progress, size):
                written, failures = self._round(part, size)
            done += written
            refused += failures
        progress.close(count)
        everything = reduce(DataFrame.unionByName, refused, self._no_failures())
        return everything if done == count else self._with_vanished(wanted, everything)

    def _round(self, wanted: DataFrame, count: int) -> tuple[int, list[DataFrame]]:
        """Encode and commit one round: how many contents ended in a vector or a failure, and the failures."""
        folder = self.store.fresh_folder(self.table)
        task = self._task(folder)
        rows = self._rows(wanted, count)
        written = self._run_on_workers(rows, lambda b: _encode_partition(task, b), from_arrow_schema(WRITTEN))
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
        return done, [self.spark.read.schema(from_arrow_schema(FAILURES)).parquet(*paths)] if paths else []

    def _no_failures(self) -> DataFrame:
        return self.spark.createDataFrame([], from_arrow_schema(FAILURES))

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
            "precision": self.encoder.precision,
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
    limits: Limits

    def place(self) -> tuple[str, int]:
        """Return the torch device and the CPU threads that Spark gave this task."""
        local = TaskContext.get()
        gpu = local.resources().get("gpu") if local else None
        return usable_device(self.device, gpu.addresses[0] if gpu else None), max(1, local.cpus() if local else 1)


OUT_OF_RANGE = ("out_of_range", f"a number of the vector is beyond ±{LARGEST:.0f}, what float16 can hold", False)


def _encode_partition(task: _Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Encode one partition of (content_hash, value) and return which files hold the result."""
    writer = FeatureWriter(task.folder, task.encoder.dim, task.date)
    rows = (row for batch in batches for row in zip(*[column.to_pylist() for column in batch.columns], strict=True))
    for window in encode_stream(task.encoder, rows, task.limits, *task.place()):
        _write(writer, window)
    yield writer.close()


def _write(writer: FeatureWriter, window: Encoded) -> None:
    fits_G = np.abs(window.vectors_GD).max(axis=1, initial=0.0) <= LARGEST
    writer.vectors([key for key, fits in zip(window.keys, fits_G, strict=True) if fits], window.vectors_GD[fits_G])
    rows = [(key, failure.reason, failure.detail, failure.transient) for key, failure in window.failures]
    rows += [(key, *OUT_OF_RANGE) for key, fits in zip(window.keys, fits_G, strict=True) if not fits]
    writer.failures(rows)


def _self_test(task: _Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Time the encoder's precisions and back ends on a sample, and return the verdict as JSON."""
    import torch

    from crossweave.encoders.neural import NeuralEncoder
    from crossweave.encoders.selftest import choose

    values: list[Any] = [value for batch in batches for value in batch.column(1).to_pylist()]
    device, threads = task.place()
    torch.set_num_threads(threads)
    assert isinstance(task.encoder, NeuralEncoder)  # no other has open choices
    verdict = choose(task.encoder, values, device, task.limits)
    yield pa.RecordBatch.from_arrays([pa.array([json.dumps(verdict.as_json())])], names=["verdict"])
