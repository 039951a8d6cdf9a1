"""One modality's share of a night: fits the encoder, encodes what is wanted, commits it, accounts for every cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import repeat
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from crossweave.artifacts.learned import LearnedEncoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.worker import Limits
from crossweave.errors import ReconciliationError
from crossweave.runtime.progress import Progress
from crossweave.runtime.record import Ledger
from crossweave.runtime.spark_progress import task_progress
from crossweave.stages.embed.night import STAGE, Night
from crossweave.stages.embed.workers import Task, encode_partition, self_test
from crossweave.storage.location import Location
from crossweave.tables.compaction import compact
from crossweave.tables.contents import FAILED, HAVE, WANTED, Standing, vanished
from crossweave.tables.encoder_states import EncoderStates
from crossweave.tables.feature_writer import FAILURES, WRITTEN
from crossweave.tables.paths import read_parquet
from crossweave.tables.payloads import batch_rows, read_payloads, temporarily
from crossweave.tables.quarantine import quarantine_rows, worst_reasons
from crossweave.tables.receipt_details import Feature
from crossweave.tables.schema import feature_table


class Modality:
    """One modality's share of the stage."""

    def __init__(self, night: Night, name: str, encoder: Encoder, learned: LearnedEncoder | None = None) -> None:
        self.night, self.context, self.settings, self.store = night, night.context, night.settings, night.store
        self.name, self.encoder, self.learned = name, encoder, learned
        self.modality = self.settings.modalities[name]
        self.spark = night.spark
        self.ledger = Ledger()
        self.metrics: dict[str, float] = {}
        self.writes: dict[str, int] = {}
        self.over_budget: list[str] = []

    @property
    def table(self) -> str:
        """The feature table of this modality and its encoder."""
        return feature_table(self.name, self.encoder.fingerprint)

    @property
    def feature(self) -> Feature:
        """What the receipt tells of it."""
        learned = "" if self.learned is None else self.learned.sealed.fingerprint
        return Feature(self.table, self.encoder.fingerprint, self.encoder.dim, self.encoder.precision, learned)

    def prepare(self, states: EncoderStates) -> None:
        """Fit and self-test the encoder on a sample of the catalog, where that is still to be done or asked for."""
        encoder, embed = self.encoder, self.settings.embed
        state = states.load(self.name, encoder.identity)
        if encoder.learns and (state.learned is None or embed.refit):
            encoder.fit(self._values_of_items(embed.fit_rows))
            state = replace(state, learned=dict(encoder.learned))
            states.save(self.name, encoder.identity, state)
        if encoder.open_choices and state.selftest is None:
            drawn = self._contents().orderBy("content_hash").limit(embed.selftest_rows).collect()
            if len(drawn) == embed.selftest_rows:  # a handful of contents is not worth it, and would not be sure
                task = self._task(self.context.staging)
                one = self._payloads(drawn).coalesce(1)
                verdict = self._run_on_workers(one, lambda b: self_test(task, b), "verdict string")
                state = replace(state, selftest=json.loads(verdict[0]["verdict"]))
                states.save(self.name, encoder.identity, state)
        state.hand_to(encoder)

    def run(self, standing: Standing) -> None:
        """Encode this modality's missing contents, commit them, then the failures."""
        wanted = self.night.contents.where((F.col("modality") == self.name) & (F.col("state") == WANTED))
        failures = None
        if standing.wanted:
            failures = self._encode(wanted, standing)
        if self.store.snapshot(self.table) is None:
            self._commit([], 0)  # every reader finds a table of this name, be it empty
        elif standing.wanted:
            compact(self.spark, self.store, self.table, self.settings.embed.compact_files, "content_hash")
        self._settle(wanted, standing, failures)

    def _contents(self) -> DataFrame:
        return self.night.contents.where(F.col("modality") == self.name).select("content_hash", "item_id", "file")

    def _values_of_items(self, most: int) -> Iterator[Any]:
        """Give the values of a fair draw of items, the same on every run: one that ten of them hold, ten times."""
        cells = self.night.cells.where(F.col("modality") == self.name).select("item_id", "content_hash")
        items = cells.orderBy(F.xxhash64("item_id"), "item_id", "content_hash").limit(most)
        counts = {row["content_hash"]: row["count"] for row in items.groupBy("content_hash").count().collect()}
        hashes = self.spark.createDataFrame([(key,) for key in counts], "content_hash string")
        drawn = self._contents().join(hashes, "content_hash", "left_semi").collect()
        for row in self._payloads(drawn).collect():
            yield from repeat(row["value"], counts[row["content_hash"]])

    def _payloads(self, drawn: Sequence[Row]) -> DataFrame:
        """Return (content_hash, value) of contents of a sample, in the order of their hashes."""
        wanted = self.spark.createDataFrame(drawn, "content_hash string, item_id string, file string")
        files = sorted({row["file"] for row in drawn})
        return self._rows(wanted, files, len(drawn)).dropDuplicates(["content_hash"]).orderBy("content_hash")

    def _rows(self, wanted: DataFrame, files: Sequence[str], count: int) -> DataFrame:
        """Return (content_hash, value) of the wanted contents, dealt out to as many tasks as they are worth."""
        kind, columns = self.modality.kind, self.modality.columns
        id_column, source, each = self.settings.inputs.items.id, self.night.source, self.settings.embed.rows_per_task
        rows = read_payloads(self.spark, source, files, id_column, kind, columns, wanted, count, each)
        # Two rows of one id may hold the same content.
        return rows.dropDuplicates(["content_hash"]) if self.night.repeated_ids else rows

    def _run_on_workers(self, rows: DataFrame, work: Callable[..., Any], schema: Any) -> list[Row]:
        """Collect `mapInArrow` of rows that carry payloads, in batches that fit into memory however large those are."""
        most = batch_rows(self.night.source.table, self.settings.embed.batch_rows)
        with temporarily(self.spark, "spark.sql.execution.arrow.maxRecordsPerBatch", most):
            return rows.mapInArrow(work, schema).collect()

    def _task(self, folder: Location) -> Task:
        embed = self.settings.embed
        limits = Limits(embed.isolate_decoders, embed.item_seconds, embed.item_megabytes)
        return Task(self.encoder, self.learned, folder, self.context.date, embed.device, limits)

    def _encode(self, wanted: DataFrame, standing: Standing) -> DataFrame | None:
        """Encode and commit in rounds, so that a run that dies loses one; returns the failures, if there are any."""
        count = standing.wanted
        progress = self.context.progress(f"embed {self.name}", count, "contents")
        refused: list[DataFrame] = []
        done = 0
        for part, files, size in self._shares(wanted, standing):
            before = done
            for written, failures in self._rounds(part, files, size, progress):
                done += written
                refused += failures
            if done - before > size:
                raise ReconciliationError(f"{self.name}: {size} contents were to be encoded, {done - before} came back")
        progress.close(count)
        if done == count and not refused:
            return None
        everything = reduce(DataFrame.unionByName, refused, self._no_failures())
        if done == count:
            return everything
        return everything.unionByName(vanished(wanted, self.store.read(self.spark, self.table), everything))

    def _shares(self, wanted: DataFrame, standing: Standing) -> Iterator[tuple[DataFrame, Sequence[str], int]]:
        """Part the contents by files, some `commit_contents` a share, so that each file is read for one share alone."""
        most, count = self.settings.embed.commit_contents, standing.wanted
        if count <= most or len(standing.files) == 1:
            yield wanted, standing.files, count
            return
        shares: list[dict[str, int]] = []
        for row in wanted.groupBy("file").count().orderBy("file").collect():
            if not shares or sum(shares[-1].values()) + row["count"] > most:
                shares.append({})
            shares[-1][row["file"]] = row["count"]
        for share in shares:
            names = self.spark.createDataFrame([(file,) for file in share], "file string")
            yield wanted.join(F.broadcast(names), "file", "left_semi"), list(share), sum(share.values())

    def _rounds(
        self, wanted: DataFrame, items_files: Sequence[str], count: int, progress: Progress
    ) -> Iterator[tuple[int, list[DataFrame]]]:
        """Encode and commit a share: how many contents ended in a vector or a failure, and the failures.

        A share of more than `commit_contents` is one large file. Its tasks run in several rounds, each of which reads
        its own row groups.
        """
        folder = self.store.fresh_folder(self.table)
        task, schema = self._task(folder), from_arrow_schema(WRITTEN)
        rows, encode = self._rows(wanted, items_files, count), lambda b: encode_partition(task, b)
        rounds = -(-count // self.settings.embed.commit_contents)
        if rounds == 1:
            with task_progress(self.spark, progress, count):
                written = self._run_on_workers(rows, encode, schema)
            yield self._committed(folder, written)
            return
        most = batch_rows(self.night.source.table, self.settings.embed.batch_rows)
        with temporarily(self.spark, "spark.sql.execution.arrow.maxRecordsPerBatch", most):
            made = rows.mapInArrow(encode, schema).rdd
        tasks = made.getNumPartitions()
        at_once = -(-tasks // rounds)
        for start in range(0, tasks, at_once):
            some = range(start, min(start + at_once, tasks))
            with task_progress(self.spark, progress, count // rounds):
                written = self.spark.sparkContext.runJob(made, list, some)
            yield self._committed(folder, written)

    def _committed(self, folder: Location, written: Sequence[Row]) -> tuple[int, list[DataFrame]]:
        """Commit what some tasks wrote."""
        files = {kind: [r for r in written if r["kind"] == kind] for kind in ("vectors", "failures")}
        done = sum(r["rows"] for r in written)
        if files["vectors"]:
            made = sorted(folder / "vectors" / r["file"] for r in files["vectors"])
            self._commit(made, sum(r["rows"] for r in files["vectors"]))
        paths = [folder / "failures" / r["file"] for r in files["failures"]]
        return done, [read_parquet(self.spark, paths, from_arrow_schema(FAILURES))] if paths else []

    def _commit(self, files: list[Location], rows: int) -> None:
        head = self.store.snapshot(self.table)
        base = head.version if head else None
        self.store.commit(self.table, files, "append", base=base, properties=self._properties(), expected_rows=rows)

    def _no_failures(self) -> DataFrame:
        return self.spark.createDataFrame([], from_arrow_schema(FAILURES))

    def _settle(self, wanted: DataFrame, standing: Standing, failures: DataFrame | None) -> None:
        """Account for every cell, write the quarantine and compare the failures with the budget."""
        broken: dict[str, tuple[int, int]] = {}
        if failures is not None:
            failures = failures.cache()
            by_reason = wanted.join(failures, "content_hash").groupBy("reason")
            counted = by_reason.agg(F.count("*").alias("contents"), F.sum("cells").alias("cells")).collect()
            broken = {row["reason"]: (row["contents"], row["cells"]) for row in counted}
            mine = self.night.cells.where(F.col("modality") == self.name)
            self._quarantine(mine.join(failures, "content_hash"), sum(cells for _, cells in broken.values()))
            failures.unpersist()
        lost = sum(contents for contents, _ in broken.values())
        ledger, cells = self.ledger, standing.cells
        ledger.rows_in = sum(cells.values())
        ledger.skipped = cells[HAVE] + cells[FAILED]
        ledger.quarantined = {reason: count for reason, (_, count) in broken.items()}
        ledger.rows_out = cells[WANTED] - sum(ledger.quarantined.values())
        total, bad = sum(standing.contents.values()), standing.contents[FAILED] + lost
        encoded = standing.wanted - lost
        self.metrics = {"encoded": encoded, "failed": lost, "contents": total, "without_vector": bad}
        head = self.store.required(self.table)
        self.writes[self.table] = head.version
        if head.rows < standing.contents[HAVE] + encoded:
            raise ReconciliationError(
                f"{self.table} holds {head.rows} vectors; {standing.contents[HAVE]} and {encoded} new ones are expected"
            )
        budget = self.settings.embed
        if bad > budget.min_bad_count and bad > budget.max_bad_fraction * total:
            self.over_budget.append(self._worst(bad, total))

    def _quarantine(self, rows: DataFrame, expected: int) -> None:
        head = self.store.snapshot("quarantine")
        frame = quarantine_rows(
            rows,
            date=self.context.date,
            run_id=self.context.run_id,
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
        if written.rows - (head.rows if head else 0) != expected:
            raise ReconciliationError(
                f"{self.name}: {expected} cells failed, quarantine got {written.rows} rows in all"
            )
        self.writes["quarantine"] = written.version

    def _worst(self, bad: int, total: int) -> str:
        quarantine = self.store.read(self.spark, "quarantine")
        mine = quarantine.where((F.col("encoder") == self.encoder.fingerprint) & (F.col("modality") == self.name))
        contents = self.night.contents.where(F.col("modality") == self.name)
        rows = mine.join(contents, "content_hash", "left_semi")
        return f"{self.name}: {bad:,} of {total:,} ({worst_reasons(rows, 'content_hash')})"

    def _properties(self) -> dict[str, str]:
        return {
            "modality": self.name,
            "encoder": self.encoder.name,
            "fingerprint": self.encoder.fingerprint,
            "dim": str(self.encoder.dim),
            "precision": self.encoder.precision,
            "dtype": "float16",
        }
