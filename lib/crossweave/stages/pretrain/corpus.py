"""Writes the corpus of one encoder: the texts of its modalities as token ids, and what users took of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.artifacts.learned import LearnedEncoder, in_place
from crossweave.encoders.base import Encoder
from crossweave.errors import ReconciliationError
from crossweave.feeding.arrays import lists_to_bytes
from crossweave.feeding.corpus import CorpusFiles, load_corpus
from crossweave.feeding.datasets import TensorFile
from crossweave.feeding.schema import POSITIONS, TAKEN, TEXTS, TOKENS
from crossweave.feeding.writer import described_dataset, even_groups, write_dataset
from crossweave.runtime.stage import StageContext
from crossweave.storage.location import Location
from crossweave.tables.contents import distinct_contents, item_cells
from crossweave.tables.history import seen_by_training
from crossweave.tables.leakage import find_leakage, held_out_pairs
from crossweave.tables.payloads import batch_rows, payload_source, read_payloads, temporarily
from crossweave.tables.positions import with_position
from crossweave.tables.receipt_details import Ingested
from crossweave.tables.receipts import Receipt
from crossweave.tables.source import Source

KEY = ("modality", "content_hash")


@dataclass(frozen=True)
class Tokenising:
    """What a task needs to know; it travels to the workers by pickle."""

    encoder: Encoder
    files: LearnedEncoder | None  # where the encoder's lie, if not where its settings say

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn (content_hash, value) into (content_hash, tokens); what has none is left out: the caller counts."""
        encoder = in_place(self.encoder, self.files)
        for batch in batches:
            keys = batch.column(0).to_pylist()
            prepared = encoder.prepare(batch.column(1).to_pylist())
            tokens = [np.asarray(ids, TOKENS).tobytes() for ids in prepared.examples]
            columns = [pa.array([keys[n] for n in prepared.positions], pa.string()), pa.array(tokens, pa.binary())]
            yield pa.RecordBatch.from_arrays(columns, names=["content_hash", "tokens"])


class CorpusWriter:
    """The contents that an encoder reads, of the catalog that ingest left."""

    def __init__(self, context: StageContext, ingest: Receipt[Ingested], modalities: Sequence[str]) -> None:
        self.context, self.settings, self.ingest = context, context.settings, ingest
        self.spark, self.store, self.names = context.spark, context.tables, list(modalities)
        self.staging = context.staging / "corpus"
        rows = self.store.read(self.spark, "item_rows", ingest.writes["item_rows"])
        self.cells = item_cells(rows).where(F.col("modality").isin(self.names))
        self.contents = distinct_contents(self.cells)

    def sample(self, most: int) -> Iterator[str]:
        """Give the texts of a fair draw of contents, the same on every run."""
        drawn = self.contents.orderBy(F.xxhash64(F.lit(self.settings.seed), *KEY), *KEY).limit(most).cache()
        try:
            for name in self.names:
                for row in self._payloads(name, drawn).orderBy("content_hash").toLocalIterator():
                    yield ", ".join(row["value"]) if isinstance(row["value"], list) else row["value"]
        finally:
            drawn.unpersist()

    def write(self, folder: Location, fingerprint: str, work: dict[str, Tokenising], histories: bool) -> CorpusFiles:
        """Write the corpus, or find it there; `work` says how each modality's contents become tokens."""
        found = load_corpus(folder, fingerprint)
        if found is not None:
            return found
        folder.remove()
        self.staging.remove()
        try:
            contents = self.contents.count()
            numbered = self._numbered_texts(work)
            texts = self._dataset(numbered, TEXTS, folder / "texts")
            users, taken = self._taken(numbered, folder / "taken") if histories else (0, ())
            corpus = CorpusFiles(folder, fingerprint, contents, texts, users, taken)
            corpus.save()
        finally:
            self.staging.remove()
        return corpus

    def _numbered_texts(self, work: dict[str, Tokenising]) -> DataFrame:
        """Return modality, content_hash, tokens and position, from 0 in an order drawn by the seed."""
        parts = []
        for name, tokenising in work.items():
            rows = self._payloads(name, self.contents).mapInArrow(tokenising, "content_hash string, tokens binary")
            parts.append(rows.withColumn("modality", F.lit(name)))
        most = batch_rows(self._source.table, self.settings.embed.batch_rows)
        with temporarily(self.spark, "spark.sql.execution.arrow.maxRecordsPerBatch", most):
            tokenised = reduce(DataFrame.unionByName, parts)
            order = [F.xxhash64(F.lit(self.settings.seed), *KEY), *(F.col(name) for name in KEY)]
            numbered = with_position(self.spark, tokenised, order, "position", self.staging / "texts")
        return numbered.withColumn("position", F.col("position").cast("int"))

    def _taken(self, numbered: DataFrame, folder: Location) -> tuple[int, tuple[TensorFile, ...]]:
        """Write what users took, as far as they may learn from it: positions of texts, of two at least."""
        history = self._seen()
        texts = self.cells.join(numbered.drop("tokens"), list(KEY)).select("item_id", "position")
        took = history.select("user_id", "item_id").join(texts, "item_id")
        users = took.groupBy("user_id").agg(F.sort_array(F.collect_set("position")).alias("texts"))
        order = [F.xxhash64(F.lit(self.settings.seed), "user_id"), F.col("user_id")]
        rows = with_position(self.spark, users.where(F.size("texts") > 1), order, "position", self.staging / "taken")
        packed = rows.select(F.col("position").cast("int"), "texts").mapInArrow(_pack, "position int, texts binary")
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
        rows = rows.withColumn("held_out", F.col("position") % every == every - 1)
        group_rows, groups = even_groups(count, settings.row_group_rows, ranks)
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
        return rows.dropDuplicates(["content_hash"])

    @cached_property
    def _source(self) -> Source:
        items = self.settings.inputs.items
        read = [(self.settings.modalities[name].kind, self.settings.modalities[name].columns) for name in self.names]
        return payload_source(lambda: self.spark, items.path, items.id, read, items.derived)


def _pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        texts = lists_to_bytes(batch.column("texts"), POSITIONS)
        yield pa.RecordBatch.from_arrays([batch.column("position"), texts], names=["position", "texts"])
