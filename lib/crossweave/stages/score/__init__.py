"""Score: exact top-K for every user, with seen items masked before the cut, and reasons by modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.alignment.user_parts import UNKNOWN
from crossweave.artifacts.model import TrainedModel
from crossweave.artifacts.scored import SCORED, ScoredVectors, save_item_ids
from crossweave.artifacts.sealed import building, open_sealed, publish
from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import Manifest, required_manifest
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.runtime.spark_progress import task_progress
from crossweave.scoring.reranks import build_reranks
from crossweave.scoring.rules import ItemRules
from crossweave.stages.score.ann import check_index, measured, write_index
from crossweave.stages.score.changes import BASIS, STATES, basis_of, carried, unchanged_users
from crossweave.stages.score.rules import blame, blocked_pairs, catalog_rules, count_rules, item_rules
from crossweave.stages.score.workers import CANDIDATES, RULES, USER_COLUMNS, Task, score_partition
from crossweave.storage.records import digest
from crossweave.tables.item_rules import CatalogRules, check_rules, ruled_items
from crossweave.tables.leakage import Leakage, find_leakage, held_out_pairs
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.payloads import BATCH_BYTES, temporarily
from crossweave.tables.receipts import Receipt
from crossweave.tables.schema import spark_schema, table_schema
from crossweave.tables.scored_users import UserTables, check_segments, user_rows, user_states
from crossweave.tables.store import TableStore
from crossweave.training.item_tower import all_items

STAGE = "score"
INDEX_BYTES = 4  # of an item index in a user's lists
CODE_VERSION = 8


def check_scoring(settings: Settings) -> None:
    """Refuse, before anything is trained, a re-rank step that there is not and an index that the model will not have.

    Raises SettingsError. Scoring alone asks the trained model, which may be of other settings.
    """
    build_reranks(settings.score.rerank or {})
    check_index(settings)


def score_users(context: StageContext, record: StageRecord) -> None:
    """Rank the candidates for every user of the users and interactions tables.

    Writes the table recommendations as a whole. A user who has seen everything gets no row and is counted. With
    score.incremental, the lists of users of whom nothing changed are carried over.
    """
    settings = context.settings
    build_reranks(settings.score.rerank or {})
    receipts = context.receipts
    tensors, trained = receipts.required("tensors"), receipts.required("train")
    reads, fingerprint = _inputs(context)
    record.reads = reads
    last = receipts.latest(STAGE)
    if last is not None and is_current(context):
        record.nothing_to_do(last.rows, reads, "this date's users are scored with this model")
        return
    manifest = required_manifest(context.workspace / "tensors" / tensors.details["folder"], tensors.fingerprint)
    if trained.details["tensors"] != manifest.fingerprint:
        raise SettingsError("the model was trained on other tensors than those there now", "run ./submit.sh train")
    model = TrainedModel.open(context.workspace / "models" / trained.details["folder"], trained.fingerprint)
    store = context.tables
    rules = _rules(context, store, reads, as_trained=reads["catalog"] == tensors.reads["catalog"])
    vectors = _vectors(context, store, manifest, model, rules, fingerprint)
    users = _users(context, store, reads, tensors.details["protocol"], manifest.attributes).cache()
    count, longest = users.agg(F.count("*"), F.max(F.size("history") + F.size("seen") + F.size("blocked"))).first() or (
        0,
        0,
    )
    leakage = _leakage(context, store, reads, tensors.details["protocol"], users)
    if "test" not in {*settings.score.history_splits, *settings.score.seen_splits}:
        leakage.refuse()
    same: DataFrame | None = None
    if settings.score.incremental:
        basis = basis_of(_shared(context, reads, manifest), rules)
        same = unchanged_users(context.spark, store, last, basis, user_states(users))
    due = users if same is None else _spread(users.join(same, "user_id", "left_anti"))
    due_count = count if same is None else due.count()
    folders = (model.folder, vectors.folder, manifest.folder)
    task = Task(fingerprint, *folders, context.date, settings.score, settings.seed, rules is not None)
    found = measured(task, users) if settings.score.ann.index is not None else {}
    scored = due.select(*USER_COLUMNS).mapInArrow(
        lambda batches: score_partition(task, batches), spark_schema("recommendations")
    )
    progress = context.progress("score", due_count, "users")
    rows = max(1, min(settings.score.block_users, BATCH_BYTES // (INDEX_BYTES * (longest or 1))))
    with (
        task_progress(context.spark, progress, due_count),
        temporarily(context.spark, "spark.sql.execution.arrow.maxRecordsPerBatch", rows),
    ):
        record.writes = _write_lists(context, store, scored, last, same)
    progress.close(due_count)
    written = store.required("recommendations", record.writes["recommendations"])
    lists = store.read(context.spark, "recommendations", written.version)
    served, short = lists.groupBy("user_id").count().agg(
        F.count("*"), F.coalesce(F.sum((F.col("count") < settings.score.top_k).cast("long")), F.lit(0))
    ).first() or (0, 0)
    record.ledgers = {"users": Ledger(rows_in=count, rows_out=served, skipped=count - served)}
    record.metrics = {
        "recommendations": written.rows,
        "users_short_list": short,
        "users_without_candidates": count - served,
        "users_without_history": users.where(F.size("history") == 0).count(),
        **leakage.metrics,
    }
    if rules is not None:
        index = store.read(context.spark, "item_index", reads["item_index"])
        record.metrics |= count_rules(rules, vectors.array(CANDIDATES)) | blocked_pairs(users)
        record.metrics |= blame(users, lists, index, vectors.folder, settings.score.top_k)
    record.metrics |= found
    record.note = f"{written.rows:,} recommendations"
    details = {
        "protocol": tensors.details["protocol"],
        "model": trained.details["folder"],
        "scored": vectors.folder.name,
        "held_out_known": leakage.found,
    }
    if settings.score.incremental:
        record.writes |= {STATES: _replace(store, user_states(users), STATES)}
        record.metrics |= {"users_scored": due_count, "users_carried_over": count - due_count}
        details[BASIS] = basis
    users.unpersist()
    receipts.publish(Receipt(STAGE, fingerprint, context.run_id, reads, record.writes, count, details))


def is_current(context: StageContext) -> bool:
    """Say whether this date's users are scored with tonight's model."""
    last = context.receipts.latest(STAGE)
    return last is not None and last.fingerprint == _inputs(context)[1]


def _inputs(context: StageContext) -> tuple[dict[str, int], str]:
    """Return the table versions to read and the fingerprint of all that decides the result."""
    ingest, tensors, trained = (context.receipts.required(n) for n in ("ingest", "tensors", "train"))
    tables = ("catalog", "interactions", "users", "blocks")
    reads = {name: ingest.writes[name] for name in tables if name in ingest.writes or name != "blocks"}
    reads |= {name: tensors.writes[name] for name in ("item_index", "user_index")}
    facts = {
        "code": CODE_VERSION,
        "model": trained.fingerprint,
        "reads": context.tables.identities(reads),
        "settings": context.settings.score.model_dump(mode="json"),
        "seed": context.settings.seed,
        "date": context.date.isoformat(),
    }
    return reads, digest(facts)


def _shared(context: StageContext, reads: dict[str, int], manifest: Manifest) -> dict[str, object]:
    """Return what decides every user's list, beside the rules."""
    return {
        "code": CODE_VERSION,
        "model": context.receipts.required("train").fingerprint,
        "tensors": manifest.fingerprint,
        "indices": manifest.tables,
        "settings": context.settings.score.model_dump(mode="json"),
        "seed": context.settings.seed,
    }


def _write_lists(
    context: StageContext, store: TableStore, scored: DataFrame, last: Receipt | None, same: DataFrame | None
) -> dict[str, int]:
    """Write the table recommendations and, where something re-orders the lists, lists_before."""
    settings = context.settings.score
    tables, writes = {"recommendations": scored}, {}
    staging = context.staging / "lists"
    if settings.rerank or settings.explore.share:
        scored.write.parquet(spark_path(staging))
        both = read_parquet(context.spark, [staging], scored.schema)
        before = both.where("rank_before is not null").withColumn("rank", F.col("rank_before"))
        tables = {"recommendations": both.where("rank is not null"), "lists_before": before}
    for name, frame in tables.items():
        new = frame.select(*table_schema(name).names)
        if same is not None and last is not None:
            new = new.unionByName(carried(context.spark, store, name, last, same, context.date))
        writes[name] = _replace(store, new, name)
    staging.remove()
    return writes


def _replace(store: TableStore, frame: DataFrame, table: str) -> int:
    head = store.snapshot(table)
    return store.write(frame, table, "replace", base=head.version if head else None).version


def _rules(context: StageContext, store: TableStore, reads: dict[str, int], *, as_trained: bool) -> ItemRules | None:
    """Return the rules of the settings; None where there are none and the catalog is the one that was trained on."""
    settings, given = context.settings, catalog_rules(context.settings)
    described = store.read(context.spark, "users", reads["users"])
    check_segments(described, _segments(settings), _user_attributes(settings))
    if as_trained and given == CatalogRules() and "blocks" not in reads:
        return None
    catalog, attributes = store.read(context.spark, "catalog", reads["catalog"]), settings.inputs.items.attributes
    check_rules(catalog, given, attributes, context.date)
    index = store.read(context.spark, "item_index", reads["item_index"])
    return item_rules(ruled_items(catalog, index, given, attributes, context.date), given, settings)


def _segments(settings: Settings) -> dict[str, str]:
    return {name: rule.users for name, rule in settings.score.rules.segments.items()}


def _user_attributes(settings: Settings) -> list[str]:
    return settings.inputs.users.attributes if settings.inputs.users.path else []


def _vectors(
    context: StageContext,
    store: TableStore,
    manifest: Manifest,
    model: TrainedModel,
    rules: ItemRules | None,
    fingerprint: str,
) -> ScoredVectors:
    """Run the item tower once; the workers memory-map its result, the rules and, where there is one, the index."""
    folder = SCORED.place(context.workspace, fingerprint)
    if open_sealed(SCORED, folder, fingerprint) is None:
        with building(folder) as draft:
            index = store.read(context.spark, "item_index", manifest.versions["item_index"])
            ids = index.orderBy("item_index").select("item_id").toPandas()["item_id"]
            save_item_ids(draft, pa.array(ids, pa.string()))
            save_vectors(model, manifest, draft)
            if rules is not None:
                rules.save(draft / RULES)
            if context.settings.score.ann.index is not None:
                write_index(model, draft, rules, context.settings.score)
            publish(SCORED, draft, folder, fingerprint, {"model": model.folder.name})
    return ScoredVectors.open(folder, fingerprint)


def save_vectors(trained: TrainedModel, manifest: Manifest, folder: Path) -> None:
    """Write what the item tower says of every item of a tensor set; see `ScoredVectors`."""
    items, model = open_items(manifest), trained.load()
    made = all_items(model, items)
    with torch.inference_mode():
        targets = model.targets(made)
    arrays = {
        "target": targets.item_SE,
        "center": targets.item_SE.mean(dim=0),
        "bias": targets.bias_S,
        "history": made.history_SD,
        CANDIDATES: torch.from_numpy(items.candidate_N.copy()),  # torch wants arrays that it may write to
    }
    if targets.query_SD is not None:
        arrays["query"] = targets.query_SD
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.numpy())


def _users(
    context: StageContext,
    store: TableStore,
    reads: dict[str, int],
    protocol: str,
    vocabulary: Mapping[str, Sequence[str]],
) -> DataFrame:
    """Return the rows of `user_rows`, spread evenly over the tasks."""
    spark, settings = context.spark, context.settings
    read = lambda name: store.read(spark, name, reads[name])  # noqa: E731
    rows = user_rows(
        UserTables.of(read, protocol, blocks="blocks" in reads),
        read("item_index"),
        read("user_index"),
        history=settings.score.history_splits,
        seen=settings.score.seen_splits,
        vocabulary=vocabulary,
        segments=_segments(settings),
        attributes=_user_attributes(settings),
        unknown=UNKNOWN,
    )
    return _spread(rows)


def _leakage(
    context: StageContext, store: TableStore, reads: dict[str, int], protocol: str, users: DataFrame
) -> Leakage:
    """Look for what evaluation judges by in the histories and in the items masked as seen."""
    read = lambda name: store.read(context.spark, name, reads[name])  # noqa: E731
    cold = read("catalog").where("cold") if protocol == "cold" else None
    known = users.select("user_id", "user_index", F.explode(F.array_union("history", "seen")).alias("item_index"))
    held_out = held_out_pairs(read("interactions"), read("item_index"), cold)
    return find_leakage("the histories and seen items of the users to score", known, held_out)


def _spread(users: DataFrame) -> DataFrame:
    tasks = max(users.sparkSession.sparkContext.defaultParallelism, 1)
    return users.repartition(4 * tasks, "user_id").sortWithinPartitions("segments", "user_id")
