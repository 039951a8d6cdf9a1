"""Score: exact top-K for every user, with seen items masked before the cut, and reasons by modality."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.alignment.blend import load_blend, together
from crossweave.alignment.histories import Histories
from crossweave.alignment.sides import Targets, Users
from crossweave.alignment.store import load_model
from crossweave.alignment.user_parts import UNKNOWN, UserBatch
from crossweave.config import ScoreSettings
from crossweave.errors import SettingsError
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.runtime.spark_progress import task_progress
from crossweave.scoring.nearest import NONE, nearest_in_history
from crossweave.scoring.reasons import BEHAVIOUR, SIMILAR_ITEMS, Reasons, credit
from crossweave.scoring.topk import PAD, Kernel, TopK
from crossweave.scoring.users import beyond_product, read_users
from crossweave.tables.files import digest
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.schema import PAST_ITEM, RECOMMENDATIONS, spark_schema
from crossweave.tables.store import TableStore
from crossweave.tables.user_attributes import attribute_codes
from crossweave.training.item_tower import all_items, gather_items

STAGE = "score"
CODE_VERSION = 4
REASON_USERS = 128  # users explained at a time: bounds the coalition vectors in memory


def score_users(context: StageContext, record: StageRecord) -> None:
    """Rank the candidates for every user of the users and interactions tables.

    Writes the table recommendations as a whole. A user who has seen everything gets no row and is counted.
    """
    settings = context.settings
    receipts = Receipts(context.workspace)
    tensors, trained = receipts.required("tensors"), receipts.required("train")
    reads, fingerprint = _inputs(context)
    record.reads = reads
    last = receipts.latest(STAGE)
    if last is not None and is_current(context):
        record.nothing_to_do(last.rows, reads, "this date's users are scored with this model")
        return
    manifest = load_manifest(context.workspace / "tensors" / tensors.details["folder"])
    if manifest is None or trained.details["tensors"] != manifest.fingerprint:
        raise SettingsError("the model was trained on other tensors than those there now", "run ./submit.sh train")
    model_folder = context.workspace / "models" / trained.details["folder"]
    store = TableStore(context.workspace / "tables")
    _write_item_vectors(context, store, manifest, model_folder, tensors.writes["item_index"])
    users = _users(context, store, reads, tensors.details["protocol"], manifest.attributes).cache()
    count = users.count()
    task = _Task(model_folder, manifest.folder, context.date, settings.score)
    scored = users.select("user_id", "history", "seen", "user_index", "attributes").mapInArrow(
        lambda batches: _score_partition(task, batches), spark_schema("recommendations")
    )
    head = store.snapshot("recommendations")
    progress = context.progress("score", count, "users")
    with task_progress(context.spark, progress, count):
        written = store.write(scored, "recommendations", "replace", base=head.version if head else None)
    progress.close(count)
    per_user = store.read(context.spark, "recommendations", written.version).groupBy("user_id").count()
    served, short = per_user.agg(
        F.count("*"), F.coalesce(F.sum((F.col("count") < settings.score.top_k).cast("long")), F.lit(0))
    ).first() or (0, 0)
    record.ledgers = {"users": Ledger(rows_in=count, rows_out=served, skipped=count - served)}
    record.writes = {"recommendations": written.version}
    record.metrics = {
        "recommendations": written.rows,
        "users_short_list": short,
        "users_without_candidates": count - served,
        "users_without_history": users.where(F.size("history") == 0).count(),
    }
    record.note = f"{written.rows:,} recommendations"
    users.unpersist()
    receipts.publish(
        Receipt(
            STAGE, fingerprint, context.run_id, reads, record.writes, count, {"protocol": tensors.details["protocol"]}
        )
    )


def is_current(context: StageContext) -> bool:
    """Say whether this date's users are scored with tonight's model."""
    last = Receipts(context.workspace).latest(STAGE)
    return last is not None and last.fingerprint == _inputs(context)[1]


def _inputs(context: StageContext) -> tuple[dict[str, int], str]:
    """Return the table versions to read and the fingerprint of all that decides the result."""
    ingest, tensors, trained = (Receipts(context.workspace).required(n) for n in ("ingest", "tensors", "train"))
    reads = {name: ingest.writes[name] for name in ("catalog", "interactions", "users")}
    reads |= {name: tensors.writes[name] for name in ("item_index", "user_index")}
    facts = {
        "code": CODE_VERSION,
        "model": trained.fingerprint,
        "reads": reads,
        "settings": context.settings.score.model_dump(mode="json"),
        "date": context.date.isoformat(),
    }
    return reads, digest(facts)


def _write_item_vectors(
    context: StageContext, store: TableStore, manifest: Manifest, folder: Path, index_version: int
) -> None:
    """Run the item tower once; the workers memory-map its result."""
    items = open_items(manifest)
    model = load_model(folder)
    made = all_items(model, items)
    with torch.inference_mode():
        targets = model.targets(made)
    _save(folder / "target.npy", targets.item_SE.numpy())
    _save(folder / "center.npy", targets.item_SE.mean(dim=0).numpy())
    _save(folder / "bias.npy", targets.bias_S.numpy())
    if targets.query_SD is not None:
        _save(folder / "query.npy", targets.query_SD.numpy())
    _save(folder / "history.npy", made.history_SD.numpy())
    _save(folder / "candidate.npy", items.candidate_N)
    index = store.read(context.spark, "item_index", index_version).orderBy("item_index").toPandas()
    table = pa.table({"item_id": pa.array(index["item_id"], pa.string())})
    temporary = folder / ".item_ids.arrow.new"
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    temporary.replace(folder / "item_ids.arrow")


def _save(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}")
    np.save(temporary, array)  # appends .npy only where it is missing
    temporary.replace(path)


def _users(
    context: StageContext,
    store: TableStore,
    reads: dict[str, int],
    protocol: str,
    vocabulary: Mapping[str, Sequence[str]],
) -> DataFrame:
    """Return one row a user, spread evenly over the tasks.

    user_id, history and seen (item indices, oldest first), user_index (UNKNOWN for who has none), attributes (codes).
    """
    spark, settings = context.spark, context.settings.score
    index = store.read(spark, "item_index", reads["item_index"])
    events = store.read(spark, "interactions", reads["interactions"])
    if protocol == "cold":
        # Withheld items are the candidates: what the users did with them is neither known nor masked.
        catalog = store.read(spark, "catalog", reads["catalog"])
        events = events.join(catalog.where("cold").select("item_id"), "item_id", "left_anti")
    latest = events.groupBy("user_id", "item_id", "split").agg(F.max("event_time").alias("at"))
    pairs = latest.join(index, "item_id")

    def indices(splits: list[str]) -> F.Column:
        """Oldest first, as training saw them; an item without a time comes before all that have one."""
        event = F.struct(F.coalesce(F.unix_seconds("at"), F.lit(-1)).alias("time"), "item_index")
        chosen = F.when(F.col("split").isin(*splits), event) if splits else F.lit(None).cast("struct<item_index:int>")
        return F.array_distinct(F.sort_array(F.collect_set(chosen))["item_index"])

    active = pairs.groupBy("user_id").agg(
        indices(list(settings.history_splits)).alias("history"), indices(list(settings.seen_splits)).alias("seen")
    )
    described = store.read(spark, "users", reads["users"])
    everybody = described.select("user_id").union(
        store.read(spark, "interactions", reads["interactions"]).select("user_id")
    )
    nothing = F.array().cast("array<int>")
    rows = everybody.distinct().join(active, "user_id", "left").join(described, "user_id", "left")
    rows = rows.withColumn("attributes", attribute_codes(vocabulary))
    rows = rows.join(store.read(spark, "user_index", reads["user_index"]), "user_id", "left")
    rows = rows.withColumn("user_index", F.coalesce("user_index", F.lit(UNKNOWN)))
    rows = rows.withColumn("history", F.coalesce("history", nothing)).withColumn("seen", F.coalesce("seen", nothing))
    tasks = max(spark.sparkContext.defaultParallelism, 1)
    return rows.repartition(4 * tasks, "user_id").sortWithinPartitions("user_id")


# On the workers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What a task needs to know; vectors are found on disk, never pickled."""

    model: Path
    tensors: Path
    date: datetime.date
    settings: ScoreSettings


class _Scorer:
    """The model and the memory-mapped item vectors of this process."""

    def __init__(self, task: _Task) -> None:
        self.settings = task.settings
        self.model, self.blend = load_model(task.model), load_blend(task.model)
        load = functools.partial(np.load, mmap_mode="c")  # copy-on-write: torch wants writable arrays
        item_NE, bias_N = (torch.from_numpy(load(task.model / f"{name}.npy")) for name in ("target", "bias"))
        query_ND = torch.from_numpy(load(task.model / "query.npy")) if self.model.target_aware else None
        self.targets = Targets(item_NE, bias_N, query_ND)
        self.center_E = torch.from_numpy(np.array(load(task.model / "center.npy")))
        self.history_ND = torch.from_numpy(load(task.model / "history.npy"))
        allowed_N = torch.from_numpy(np.array(load(task.model / "candidate.npy")))
        self.kernel = Kernel(item_NE, bias_N, allowed_N=allowed_N, block_items=task.settings.block_items)
        with pa.memory_map(str(task.model / "item_ids.arrow")) as source:
            self.item_ids = pa.ipc.open_file(source).read_all().column("item_id").combine_chunks()
        manifest = load_manifest(task.tensors)
        assert manifest is not None
        self.items, self.attributes = open_items(manifest), len(manifest.attributes)

    @torch.inference_mode()
    def score(self, rows: pa.RecordBatch, date: datetime.date) -> pa.RecordBatch:
        """Return recommendations, best first for each of the users in turn; `rows` are those of `_users`."""
        flat = Histories.from_lists(_lists(rows.column("history")))
        codes = rows.column("attributes").flatten().to_numpy(zero_copy_only=False)
        codes_UA = codes.reshape(rows.num_rows, self.attributes)
        who = UserBatch.from_arrays(rows.column("user_index").to_numpy(), codes_UA)
        users = read_users(self.model, self.history_ND, flat, who)
        best = self.kernel.best(
            users.vector_BE,
            self.settings.top_k,
            masked=_lists(rows.column("seen")),
            addition=together(beyond_product(self.model, users, self.targets), self.blend.additions(flat)),
        )
        row, place = np.nonzero(best.items_UK != PAD)
        item_R = best.items_UK[row, place]
        columns = [
            pa.array(np.full(len(row), np.datetime64(date, "D")), pa.date32()),
            rows.column("user_id").take(pa.array(row)),
            pa.array((place + 1).astype(np.int32)),
            self.item_ids.take(pa.array(item_R)),
            pa.array(best.scores_UK[row, place]),
            self._reasons(users, best, row, place),
            self._because(flat, item_R, row, place),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=RECOMMENDATIONS)

    def _reasons(self, users: Users, best: TopK, row: np.ndarray, place: np.ndarray) -> pa.MapArray:
        """Explain the first ranks of each user; the map of the others stays empty."""
        explained = place < self.settings.reasons
        counts = np.zeros(len(row), np.int32)
        names: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for start in range(0, len(users), REASON_USERS):
            chosen = np.flatnonzero(explained & (row >= start) & (row < start + REASON_USERS))
            if not len(chosen):
                continue
            item_R = best.items_UK[row[chosen], place[chosen]]
            wanted, position = np.unique(item_R, return_inverse=True)
            batch = gather_items(self.items, wanted)
            reasons = Reasons(self.model, batch)
            some, who_R = users.part(start, start + REASON_USERS), torch.from_numpy(row[chosen] - start)
            shares_RP = reasons.shares(some, who_R, torch.from_numpy(position))
            has_SP = [batch.present_SM.numpy()]
            if BEHAVIOUR in reasons.players:
                has_SP.append(batch.known_S.numpy()[:, None])
            has_RP = np.concatenate(has_SP, axis=1)[position]  # a player that is not there has no share to name
            players = reasons.players
            if self.blend.members:
                # A blend is a sum, so its Shapley share is all that the collaborative models added.
                pairs_1R = self.targets.take(torch.from_numpy(item_R)[None])
                neural_R = self.model.pair_scores(some, who_R, pairs_1R)[0]
                added_R = best.scores_UK[row[chosen], place[chosen]] - neural_R.numpy()
                known_R = batch.known_S.numpy()[position]
                for name, has_R in ((BEHAVIOUR, known_R), (SIMILAR_ITEMS, ~known_R)):
                    players, shares_RP, has_RP = credit(name, added_R, has_R, players, shares_RP, has_RP)
            counts[chosen] = has_RP.sum(1)
            names.append(np.array(players)[np.nonzero(has_RP)[1]])
            values.append(shares_RP[has_RP])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        keys = pa.array(np.concatenate(names) if names else [], pa.string())
        return pa.MapArray.from_arrays(
            pa.array(offsets), keys, pa.array(np.concatenate(values) if values else [], pa.float32())
        )

    def _because(self, histories: Histories, item_R: np.ndarray, row: np.ndarray, place: np.ndarray) -> pa.ListArray:
        """Name the nearest items of the user's history at the first ranks; the list of the others stays empty."""
        near_RC = np.full((len(row), self.settings.reason_items), NONE, np.int64)
        cosine_RC = np.zeros(near_RC.shape, np.float32)
        chosen = np.flatnonzero(place < self.settings.reasons)
        near_RC[chosen], cosine_RC[chosen] = nearest_in_history(
            self.targets.item_SE, self.center_E, histories, row[chosen], item_R[chosen], self.settings.reason_items
        )
        found_RC = near_RC != NONE
        offsets = np.concatenate([[0], np.cumsum(found_RC.sum(1))]).astype(np.int32)
        pairs = [self.item_ids.take(pa.array(near_RC[found_RC])), pa.array(cosine_RC[found_RC])]
        values = pa.StructArray.from_arrays(pairs, fields=list(PAST_ITEM))
        return pa.ListArray.from_arrays(pa.array(offsets), values)


_SCORERS: dict[Path, _Scorer] = {}
"""One scorer a worker process: Spark reuses processes for the tasks of a stage."""


def _score_partition(task: _Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Score one partition of (user_id, history, seen, user_index, attributes)."""
    context = TaskContext.get()
    torch.set_num_threads(max(1, context.cpus() if context else 1))
    for batch in batches:
        if task.model not in _SCORERS:
            _SCORERS.clear()
            _SCORERS[task.model] = _Scorer(task)
        for start in range(0, batch.num_rows, task.settings.block_users):
            part = batch.slice(start, task.settings.block_users)
            yield _SCORERS[task.model].score(part, task.date)


def _lists(column: pa.ListArray) -> list[np.ndarray]:
    """Return each list as int64 values, views of one buffer."""
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = column.offsets.to_numpy()
    return np.split(flat, offsets[1:-1] - offsets[0]) if len(column) else []
