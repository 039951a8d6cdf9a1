"""Writes one tensor set from tables: item tensors, sequence tensors, and the manifest last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StructField, StructType

from crossweave.errors import InputContractError, ReconciliationError
from crossweave.feeding.arrays import lists_to_bytes
from crossweave.feeding.leakage import check_tensors
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.schema import SEQUENCE_FIELDS, SEQUENCES, items_schema, present_field, vector_field
from crossweave.feeding.sequences import CODES, HELD_OUT
from crossweave.feeding.writer import described_dataset, even_groups, write_dataset
from crossweave.runtime.record import Ledger
from crossweave.runtime.stage import StageContext
from crossweave.storage.location import Location
from crossweave.tables.history import events_in, seen_by_training
from crossweave.tables.leakage import held_out_pairs
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.positions import with_position
from crossweave.tables.receipt_details import Embedded
from crossweave.tables.user_attributes import attribute_codes, code_counts, learn_vocabulary
from crossweave.tables.vectors import BYTES, unharmed


class TensorSet:
    """One tensor set in the making."""

    def __init__(
        self,
        context: StageContext,
        reads: dict[str, int],
        features: Embedded,
        folder: Location,
        fingerprint: str,
    ) -> None:
        self.context, self.settings, self.reads = context, context.settings, reads
        self.folder, self.fingerprint = folder, fingerprint
        self.features = features
        self.modalities = {name: feature.dim for name, feature in features.items()}
        self.spark = context.spark
        self.store, self.staging = context.tables, context.staging
        users = self.settings.inputs.users
        self.attributes = sorted(users.attributes) if users.path else []
        self.attribute_metrics: dict[str, float] = {}
        self.leakage_metrics: dict[str, float] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.writes: dict[str, int] = {}

    def run(self) -> Manifest:
        """Write both datasets and their manifest."""
        self.folder.remove()  # what lies there has no manifest, or one whose tables are gone
        try:
            index = self._index()
            events = self._events(index)
            items = self._write_items(index, events, self.folder / "items")
            users = self._users(events)
            vocabulary = self._vocabulary(users)
            self._write_sequences(users, events, vocabulary, self.folder / "sequences")
            manifest = Manifest(
                folder=self.folder,
                fingerprint=self.fingerprint,
                modalities=self.modalities,
                items=items,
                users=self.user_rows,
                item_files=described_dataset(self.spark, self.folder / "items"),
                sequence_files=described_dataset(self.spark, self.folder / "sequences"),
                attributes=vocabulary,
                tables=self.store.identities(self.writes),
                rows_in=sum(ledger.rows_in for ledger in self.ledgers.values()),
            )
            for dataset, rows in (("items", items), ("sequences", self.sequence_rows)):
                if manifest.rows(dataset) != rows:
                    raise ReconciliationError(f"{manifest.rows(dataset)} {dataset} were written, {rows} were counted")
            self._check_leakage(manifest, index)
            manifest.save()
        finally:
            self.staging.remove()
        return manifest

    def _check_leakage(self, manifest: Manifest, index: DataFrame) -> None:
        users = self.store.read(self.spark, "user_index", self.writes["user_index"])
        held_out = held_out_pairs(self._history(), index, self._cold(index))
        self.leakage_metrics = check_tensors(self.spark, manifest, users, held_out).metrics

    def _cold(self, index: DataFrame) -> DataFrame | None:
        """Return the items that the cold protocol withholds, None under the warm one."""
        return index.where("cold").select("item_id") if self.settings.split.protocol == "cold" else None

    def _index(self) -> DataFrame:
        """Number the active items by their ids; commits the table item_index."""
        catalog = self.store.read(self.spark, "catalog", self.reads["catalog"]).where("status = 'active'")
        if catalog.isEmpty():
            raise InputContractError("the catalog has no active item", "check inputs.items.path")
        numbered = with_position(
            self.spark, catalog, [F.col("item_id")], "position", self.staging / "items"
        ).withColumn("item_index", F.col("position").cast("int"))
        self._replace(numbered, "item_index")
        return numbered

    def _replace(self, frame: DataFrame, table: str) -> None:
        self.writes[table] = self.store.replace(frame, table).version

    def _events(self, index: DataFrame) -> DataFrame:
        """Return the (user, item) pairs that training may see."""
        history = self._history()
        seen = seen_by_training(history, ("train", "valid"), self._cold(index))
        path = self.staging / "events"
        seen.join(index.select("item_id", "item_index"), "item_id").select(
            "user_id",
            "item_index",
            "split",
            "weight",
            F.coalesce(F.unix_seconds("event_time"), F.lit(-1)).alias("time"),
            "events",
        ).write.parquet(spark_path(path))
        self._interactions = events_in(history)
        return read_parquet(self.spark, [path])

    def _history(self) -> DataFrame:
        return self.store.read(self.spark, "history", self.reads["history"])

    def _write_items(self, index: DataFrame, events: DataFrame, folder: Location) -> int:
        popularity = events.where("split = 'train'").groupBy("item_index").agg(F.count("*").alias("popularity"))
        frame = index.join(popularity, "item_index", "left")
        for name, dim in self.modalities.items():
            table = self.features[name].table
            features = self.store.read(self.spark, table, self.reads[table])
            vectors = features.select(F.col("content_hash").alias("_hash"), unharmed(features, table).alias("_vector"))
            wanted = F.try_element_at("hashes", F.lit(name))["content"]
            zeros = F.lit(bytes(BYTES * dim))
            frame = (
                frame.join(vectors, wanted == F.col("_hash"), "left")
                .withColumn(vector_field(name), F.coalesce("_vector", zeros))
                .withColumn(present_field(name), F.col("_vector").isNotNull())
                .drop("_hash", "_vector")
            )
        candidate = F.col("cold") if self.settings.split.protocol == "cold" else F.lit(True)
        frame = frame.withColumn("popularity", F.coalesce("popularity", F.lit(0)).cast("float"))
        frame = frame.withColumn("candidate", candidate)
        rows = index.count()
        group_rows = min(rows, self.settings.tensors.item_row_group_rows)
        write_dataset(
            self.spark, frame, items_schema(self.modalities), folder, "position", group_rows, -(-rows // group_rows)
        )
        self.ledgers["items"] = Ledger(rows_in=rows, rows_out=rows)
        return rows

    def _users(self, events: DataFrame) -> DataFrame:
        """Return user_id, user_index, events and held_out of the users to train on; commits the table user_index."""
        train = events.where("split = 'train'")
        event = F.struct("time", "item_index", "weight")
        users = train.groupBy("user_id").agg(F.sort_array(F.collect_list(event)).alias("events"))
        held_out = events.where("split = 'valid'").groupBy("user_id")
        users = users.join(
            held_out.agg(F.sort_array(F.collect_list("item_index")).alias("held_out")), "user_id", "left"
        )
        users = with_position(self.spark, users, [F.col("user_id")], "user_index", self.staging / "users")
        users = users.withColumn("user_index", F.col("user_index").cast("int"))
        self.user_rows = users.count()
        if self.user_rows == 0:
            raise InputContractError(
                "no user has a training interaction",
                "check the interactions table, its split column and the quarantine",
            )
        self._replace(users, "user_index")
        return users

    def _vocabulary(self, users: DataFrame) -> dict[str, tuple[str, ...]]:
        """Choose the attribute values of the users to train on that get a code; counts everybody's that get none."""
        known = self.store.read(self.spark, "users", self.reads["users"])
        learned_from = users.select("user_id").join(known, "user_id")
        vocabulary = learn_vocabulary(learned_from, self.attributes, self.settings.tensors.user_attribute_values)
        everybody = (
            known.select("user_id").union(self._history().select("user_id")).distinct().join(known, "user_id", "left")
        )
        coded = everybody.select("user_id", attribute_codes(vocabulary).alias("codes")).cache()
        total = coded.count()
        for name, (missing, other) in code_counts(coded, vocabulary).items():
            self.attribute_metrics |= {f"attributes.{name}.missing": missing, f"attributes.{name}.other": other}
        coded.unpersist()
        self.ledgers["users"] = Ledger(rows_in=total, rows_out=self.user_rows, skipped=total - self.user_rows)
        return vocabulary

    def _write_sequences(
        self, users: DataFrame, events: DataFrame, vocabulary: dict[str, tuple[str, ...]], folder: Location
    ) -> None:
        limit = self.settings.tensors.history
        known = self.store.read(self.spark, "users", self.reads["users"])
        chunks = users.join(known, "user_id", "left").select(
            "user_index",
            attribute_codes(vocabulary).alias("attributes"),
            "events",
            "held_out",
            F.explode(F.sequence(F.lit(0), F.floor((F.size("events") - 1) / limit).cast("int"))).alias("chunk"),
        )
        is_last = F.col("chunk") == F.floor((F.size("events") - 1) / limit)
        part = F.slice("events", F.col("chunk") * limit + 1, limit)
        rows = chunks.select(
            "user_index",
            "attributes",
            "chunk",
            part["item_index"].alias("items"),
            part["weight"].alias("weights"),
            part["time"].alias("times"),
            F.when(is_last, F.col("held_out")).alias("held_out"),
        )
        order = [F.xxhash64(F.lit(self.settings.seed), "user_index", "chunk"), F.col("user_index"), F.col("chunk")]
        rows = with_position(self.spark, rows, order, "position", self.staging / "sequences")
        self.sequence_rows = rows.count()
        self._reconcile(rows, events)
        ranks, most = self.settings.train.ranks, self.settings.tensors.row_group_rows
        group_rows, groups = even_groups(self.sequence_rows, most, ranks)
        names = ("user_index", "position", "attributes", *SEQUENCE_FIELDS, "held_out")
        packed_schema = StructType(
            [rows.schema[n] if n in ("user_index", "position") else StructField(n, BinaryType()) for n in names]
        )
        packed = rows.select(*names).mapInArrow(_pack, packed_schema)
        write_dataset(self.spark, packed, SEQUENCES, folder, "position", group_rows, groups)

    def _reconcile(self, rows: DataFrame, events: DataFrame) -> None:
        """Follow every interaction: into a sequence, into the held-out items, or left out for a counted reason."""
        counted = rows.agg(
            F.sum(F.size("items")).alias("train"), F.sum(F.coalesce(F.size("held_out"), F.lit(0))).alias("valid")
        ).first()
        assert counted is not None
        pairs, seen = events.count(), events_in(events)
        no_history = events.where("split = 'valid'").join(
            events.where("split = 'train'").select("user_id").distinct(), "user_id", "left_anti"
        )
        repeats = seen - pairs
        withheld = self._interactions - seen  # test rows, and those of withheld items
        self.ledgers["interactions"] = Ledger(
            rows_in=self._interactions,
            rows_out=counted["train"] + counted["valid"],
            skipped=repeats + withheld + no_history.count(),
        )


def _pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn the list columns of sequence rows into raw bytes."""
    for batch in batches:
        columns = [batch.column("user_index"), batch.column("position")]
        columns.append(lists_to_bytes(batch.column("attributes"), CODES))
        columns += [lists_to_bytes(batch.column(name), dtype) for name, dtype in SEQUENCE_FIELDS.items()]
        columns.append(lists_to_bytes(batch.column("held_out"), HELD_OUT))
        names = ["user_index", "position", "attributes", *SEQUENCE_FIELDS, "held_out"]
        yield pa.RecordBatch.from_arrays(columns, names=names)
