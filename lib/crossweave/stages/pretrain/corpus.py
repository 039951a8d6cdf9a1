"""Writes the corpus of one encoder: the contents of its modalities, vectors beside them, and what users took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.artifacts.learned import LearnedEncoder, in_place
from crossweave.encoders.base import Encoder
from crossweave.encoders.isolation import start_spawner
from crossweave.encoders.neural import TrainableEncoder
from crossweave.encoders.worker import Limits, encode_stream, preparing, usable_device
from crossweave.errors import ReconciliationError, SettingsError
from crossweave.feeding.arrays import lists_to_bytes
from crossweave.feeding.corpus import TARGETS, CorpusFiles, load_corpus
from crossweave.feeding.datasets import TensorFile
from crossweave.feeding.schema import CONTENTS, POSITIONS, TAKEN
from crossweave.feeding.writer import described_dataset, even_groups, write_dataset
from crossweave.pretraining.kept import kept_by
from crossweave.runtime.spark_progress import task_progress
from crossweave.runtime.spark_task import assigned
from crossweave.runtime.stage import StageContext
from crossweave.storage.location import Location
from crossweave.tables.contents import distinct_contents, item_cells
from crossweave.tables.history import seen_by_training
from crossweave.tables.leakage import find_leakage, held_out_pairs
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.payloads import batch_rows, payload_source, read_payloads, temporarily
from crossweave.tables.positions import with_position
from crossweave.tables.receipt_details import Ingested
from crossweave.tables.receipts import Receipt
from crossweave.tables.source import Source

KEY = ("modality", "content_hash")
VALUES = "content_hash string, value binary"
GROUP_BYTES = 64 << 20  # of a row group


@dataclass(frozen=True)
class Keeping:
    """What a task needs to know that keeps contents; it travels to the workers by pickle."""

    encoder: TrainableEncoder
    files: LearnedEncoder | None  # where the encoder's lie, if not where its settings say
    limits: Limits

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn (content_hash, value) into (content_hash, kept); what cannot be kept is left out: the caller counts."""
        kept = kept_by(in_place(self.encoder, self.files))
        if kept.isolated and self.limits.isolate:
            start_spawner()
        with preparing(kept, self.limits) as prepare:
            for batch in batches:
                keys, prepared = batch.column(0).to_pylist(), prepare(batch.column(1).to_pylist())
                yield _columns([keys[n] for n in prepared.positions], prepared.examples)


@dataclass(frozen=True)
class Aiming:
    """What a task needs to know that makes the vectors beside contents; it travels to the workers by pickle."""

    encoder: Encoder
    files: LearnedEncoder | None
    limits: Limits
    device: str

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn (content_hash, value) into (content_hash, vector); what has no vector is left out."""
        rows = (row for batch in batches for row in zip(*[c.to_pylist() for c in batch.columns], strict=True))
        encoder, (gpu, cpus) = in_place(self.encoder, self.files), assigned()
        for window in encode_stream(encoder, rows, self.limits, usable_device(self.device, gpu), cpus):
            yield _columns(window.keys, [vector.astype(TARGETS).tobytes() for vector in window.vectors_GD])


@dataclass(frozen=True)
class Wanted:
    """What a corpus is to hold."""

    kept: dict[str, Keeping]  # by modality
    aimed: dict[str, Aiming] = field(default_factory=dict)  # by modality: whose vectors stand beside the contents
    partner: str | None = None  # the modality of the same items that they are made of; None: the content itself
    histories: bool = False


class CorpusWriter:
    """The contents that an encoder reads, of the catalog that ingest left."""

    def __init__(self, context: StageContext, ingest: Receipt[Ingested], modalities: Sequence[str]) -> None:
        self.context, self.settings, self.ingest = context, context.settings, ingest
        self.spark, self.store, self.names = context.spark, context.tables, list(modalities)
        self.staging = context.staging / "corpus"
        rows = self.store.read(self.spark, "item_rows", ingest.writes["item_rows"])
        self._all = item_cells(rows)
        self.cells = self._all.where(F.col("modality").isin(self.names))
        self.contents = distinct_contents(self.cells)
        self._each = 1.0  # bytes of a kept content

    def sample(self, most: int) -> Iterator[str]:
        """Give the texts of a fair draw of contents, the same on every run."""
        drawn = self.contents.orderBy(F.xxhash64(F.lit(self.settings.seed), *KEY), *KEY).limit(most).cache()
        try:
            for name in self.names:
                for row in self._payloads(name, drawn).orderBy("content_hash").toLocalIterator():
                    yield ", ".join(row["value"]) if isinstance(row["value"], list) else row["value"]
        finally:
            drawn.unpersist()

    def write(self, folder: Location, fingerprint: str, wanted: Wanted) -> CorpusFiles:
        """Write the corpus, or find it there."""
        found = load_corpus(folder, fingerprint)
        if found is not None:
            return found
        folder.remove()
        self.staging.remove()
        try:
            contents = self.contents.count()
            numbered = self._numbered(wanted, contents)
            written = self._dataset(numbered, CONTENTS, folder / "contents")
            users, taken = self._taken(numbered, folder / "taken") if wanted.histories else (0, ())
            corpus = CorpusFiles(folder, fingerprint, contents, written, users, taken)
            corpus.save()
        finally:
            self.staging.remove()
        return corpus

    def _numbered(self, wanted: Wanted, count: int) -> DataFrame:
        """Return modality, content_hash, content, target and position, from 0 in an order drawn by the seed."""
        order = [F.xxhash64(F.lit(self.settings.seed), *KEY), *(F.col(name) for name in KEY)]
        contents, most = self.contents, min(count, self.settings.pretrain.most_contents)
        if count > most:
            contents = contents.orderBy(*order).limit(most)
        progress = self.context.progress("pretrain corpus", most, "contents")
        batch = batch_rows(self._source.table, self.settings.embed.batch_rows)
        with temporarily(self.spark, "spark.sql.execution.arrow.maxRecordsPerBatch", batch):
            rows = self._mapped(wanted.kept, contents).withColumnRenamed("value", "content")
            if wanted.aimed:
                targets = self._targets(wanted, contents)
                rows = rows.join(targets.withColumnRenamed("value", "target"), list(KEY))
            else:
                rows = rows.withColumn("target", F.lit(b""))
            with task_progress(self.spark, progress, most):  # to be sorted, rows would be made twice
                rows.write.parquet(spark_path(self.staging / "kept"))
        progress.close(most)
        kept = read_parquet(self.spark, [self.staging / "kept"], rows.schema)
        self._fits(kept, wanted.histories)
        numbered = with_position(self.spark, kept, order, "position", self.staging / "contents")
        return numbered.withColumn("position", F.col("position").cast("int"))

    def _mapped(self, work: Mapping[str, Any], contents: DataFrame) -> DataFrame:
        """Return modality, content_hash and value: what a task makes of each modality's contents."""
        parts = [
            self._payloads(name, contents).mapInArrow(task, VALUES).withColumn("modality", F.lit(name))
            for name, task in work.items()
        ]
        return reduce(DataFrame.unionByName, parts)

    def _targets(self, wanted: Wanted, contents: DataFrame) -> DataFrame:
        """Return modality, content_hash and value: the vector that stands beside a content."""
        if wanted.partner is None:
            return self._mapped(wanted.aimed, contents)
        # A content of several items has the partner of the first one that has any.
        partners = self._all.where(F.col("modality") == wanted.partner)
        other = partners.select("item_id", F.col("content_hash").alias("other"))
        mine = contents.select(*KEY).join(self.cells.select(*KEY, "item_id"), list(KEY))
        first = F.min(F.struct("item_id", "other")).alias("first")
        pairs = mine.join(other, "item_id").groupBy(*KEY).agg(first).select(*KEY, F.col("first.other").alias("other"))
        needed = pairs.select(F.col("other").alias("content_hash")).distinct()
        of_partner = distinct_contents(partners).join(needed, "content_hash", "left_semi")
        made = self._mapped(wanted.aimed, of_partner).select(F.col("content_hash").alias("other"), "value")
        return pairs.join(made, "other").drop("other")

    def _taken(self, numbered: DataFrame, folder: Location) -> tuple[int, tuple[TensorFile, ...]]:
        """Write what users took, as far as they may learn from it: positions of contents, of two at least."""
        history = self._seen()
        places = self.cells.join(numbered.select(*KEY, "position"), list(KEY)).select("item_id", "position")
        took = history.select("user_id", "item_id").join(places, "item_id")
        users = took.groupBy("user_id").agg(F.sort_array(F.collect_set("position")).alias("contents"))
        order = [F.xxhash64(F.lit(self.settings.seed), "user_id"), F.col("user_id")]
        rows = with_position(self.spark, users.where(F.size("contents") > 1), order, "position", self.staging / "taken")
        packed = rows.select(F.col("position").cast("int"), "contents").mapInArrow(
            _pack, "position int, contents binary"
        )
        total = history.select("user_id").distinct().count()
        return total, self._dataset(packed, TAKEN, folder)

    def _seen(self) -> DataFrame:
        """Return the pairs to learn from; raises LeakageError where one of them is held out for evaluation."""
        history = self.store.read(self.spark, "history", self.ingest.writes["history"])
        catalog = self.store.read(self.spark, "catalog", self.ingest.writes["catalog"])
        cold = catalog.where("cold").select("item_id") if self.settings.split.protocol == "cold" else None
        seen = seen_by_training(history, ("train",), cold)
        # Numbers stand in for those that tensors give: the check wants some.
        items = catalog.select("item_id", F.xxhash64("item_id").alias("item_index"))
        known = seen.join(items, "item_id").select("user_id", "item_index", F.lit(-1).alias("user_index"))
        find_leakage("the corpus of an encoder", known, held_out_pairs(history, items, cold)).refuse()
        return seen

    def _dataset(self, rows: DataFrame, schema: Any, folder: Location) -> tuple[TensorFile, ...]:
        """Write rows with their numbers, every so-many-th held out; as many row groups for every rank."""
        count, settings, ranks = rows.count(), self.settings.pretrain, self.settings.train.ranks
        if not count:
            return ()
        every = min(count, max(2, round(1 / settings.held_out)))
        most = settings.row_group_rows
        if schema is CONTENTS:
            most = max(1, min(most, int(GROUP_BYTES / self._each)))
        rows = rows.withColumn("held_out", F.col("position") % every == every - 1)
        group_rows, groups = even_groups(count, most, ranks)
        write_dataset(self.spark, rows, schema, folder, "position", group_rows, groups)
        files = described_dataset(self.spark, folder)
        if sum(file.rows for file in files) != count:
            raise ReconciliationError(f"{folder} holds {sum(file.rows for file in files)} rows, {count} were written")
        return files

    def _payloads(self, name: str, contents: DataFrame) -> DataFrame:
        """Return (content_hash, value) of a modality's contents; several rows of one id may hold the same one."""
        modality, source, items = self.settings.modalities[name], self._source, self.settings.inputs.items
        wanted = contents.where(F.col("modality") == name).select("content_hash", "item_id", "file")
        counts = {row["file"]: row["count"] for row in wanted.groupBy("file").count().collect()}
        count, each = sum(counts.values()), self.settings.embed.rows_per_task
        kind, columns = modality.kind, modality.columns
        rows = read_payloads(self.spark, source, sorted(counts), items.id, kind, columns, wanted, count, each)
        return rows.dropDuplicates(["content_hash"]) if self.ingest.details.repeated_ids else rows

    def _fits(self, kept: DataFrame, histories: bool) -> None:
        """Raise SettingsError where a rank could not hold its share; several ranks may share a machine."""
        size = F.length("content") + F.length("target")
        row = kept.select(F.sum(size).alias("bytes"), F.avg(size).alias("each")).collect()[0]
        pretrain, ranks = self.settings.pretrain, 1 if histories else self.settings.train.ranks
        held, self._each = (row["bytes"] or 0) / ranks / 2**20, row["each"] or 1.0
        if held > pretrain.rank_megabytes:
            raise SettingsError(
                f"each rank would hold {held:,.0f} MB of contents, and pretrain.rank_megabytes allows"
                f" {pretrain.rank_megabytes:,}",
                "lower pretrain.most_contents, or raise the limit where the machines have the memory",
            )

    @cached_property
    def _source(self) -> Source:
        items = self.settings.inputs.items
        read = [(modality.kind, modality.columns) for modality in self.settings.modalities.values()]
        return payload_source(lambda: self.spark, items.path, items.id, read, items.derived)


def _pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        contents = lists_to_bytes(batch.column("contents"), POSITIONS)
        yield pa.RecordBatch.from_arrays([batch.column("position"), contents], names=["position", "contents"])


def _columns(keys: list[str], values: list[bytes]) -> pa.RecordBatch:
    columns = [pa.array(keys, pa.string()), pa.array(values, pa.binary())]
    return pa.RecordBatch.from_arrays(columns, names=["content_hash", "value"])
