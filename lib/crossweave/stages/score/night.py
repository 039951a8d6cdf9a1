"""One night's scoring: who is ranked for, by which model and rules, and the tables of lists that come of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.alignment.user_parts import UNKNOWN
from crossweave.artifacts.model import MODEL, TrainedModel
from crossweave.artifacts.scored import ScoredVectors
from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.feeding.manifest import SETS, required_manifest
from crossweave.runtime.spark_progress import task_progress
from crossweave.runtime.stage import StageContext
from crossweave.scoring.rules import ItemRules
from crossweave.stages.score.ann import measured
from crossweave.stages.score.changes import STATES, basis_of, carried, unchanged_users
from crossweave.stages.score.rules import blame, blocked_pairs, catalog_rules, count_rules, item_rules
from crossweave.stages.score.scorer import USER_COLUMNS, Task
from crossweave.stages.score.vectors import scored_vectors
from crossweave.stages.score.workers import score_partition
from crossweave.tables.item_rules import CatalogRules, check_rules, ruled_items
from crossweave.tables.leakage import Leakage, find_leakage, held_out_pairs
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.payloads import BATCH_BYTES, temporarily
from crossweave.tables.receipt_details import Scored, Tensors, Trained
from crossweave.tables.receipts import Receipt
from crossweave.tables.schema import spark_schema, table_schema
from crossweave.tables.scored_users import UserTables, check_segments, user_rows, user_states

CODE_VERSION = 8
INDEX_BYTES = 4  # of an item index in a user's lists


@dataclass(frozen=True)
class Lists:
    """What ranking wrote: for how many users, of whom how many got a list."""

    users: int
    served: int
    writes: dict[str, int]
    metrics: dict[str, float]


class Night:
    """A model, rules and tables, and what they make of the users."""

    def __init__(
        self,
        context: StageContext,
        reads: dict[str, int],
        tensors: Receipt[Tensors],
        trained: Receipt[Trained],
        fingerprint: str,
    ) -> None:
        self.context, self.settings, self.store, self.reads = context, context.settings, context.tables, reads
        self.protocol = tensors.details.protocol
        workspace = context.workspace
        self.manifest = required_manifest(workspace / SETS / tensors.details.folder, tensors.fingerprint)
        if trained.details.tensors != self.manifest.fingerprint:
            raise SettingsError("the model was trained on other tensors than those there now", "run ./submit.sh train")
        model = TrainedModel.open(workspace / MODEL.below / trained.details.folder, trained.fingerprint)
        self.rules = self._rules(as_trained=reads["catalog"] == tensors.reads["catalog"])
        self.vectors: ScoredVectors = scored_vectors(context, self.manifest, model, self.rules, fingerprint)
        folders = (model.folder, self.vectors.folder, self.manifest.folder)
        self.task = Task(
            fingerprint, *folders, context.date, self.settings.score, self.settings.seed, self.rules is not None
        )
        self._decides_all = {
            "code": CODE_VERSION,
            "model": trained.fingerprint,
            "tensors": self.manifest.fingerprint,
            "indices": self.manifest.tables,
            "settings": self.settings.score.model_dump(mode="json"),
            "seed": self.settings.seed,
        }

    @cached_property
    def basis(self) -> str:
        """The fingerprint of all that every list depends on."""
        return basis_of(self._decides_all, self.rules)

    def read(self, table: str) -> DataFrame:
        """Read a table that the stage works from."""
        return self.store.read(self.context.spark, table, self.reads[table])

    def users(self) -> DataFrame:
        """Return the rows of `user_rows`, spread evenly over the tasks."""
        rows = user_rows(
            UserTables.of(self.read, self.protocol, blocks="blocks" in self.reads),
            self.read("item_index"),
            self.read("user_index"),
            history=self.settings.score.history_splits,
            seen=self.settings.score.seen_splits,
            vocabulary=self.manifest.attributes,
            segments=_segments(self.settings),
            attributes=_user_attributes(self.settings),
            unknown=UNKNOWN,
        )
        return _spread(rows)

    def leakage(self, users: DataFrame) -> Leakage:
        """Look for what evaluation judges by in the histories and in the items masked as seen."""
        cold = self.read("catalog").where("cold") if self.protocol == "cold" else None
        known = users.select("user_id", "user_index", F.explode(F.array_union("history", "seen")).alias("item_index"))
        held_out = held_out_pairs(self.read("history"), self.read("item_index"), cold)
        return find_leakage("the histories and seen items of the users to score", known, held_out)

    def rank(self, users: DataFrame, last: Receipt[Scored] | None) -> Lists:
        """Write the lists of all users; with score.incremental, those of whom nothing changed since `last` stay."""
        spark, chosen = self.context.spark, self.settings.score
        longest = F.max(F.size("history") + F.size("seen") + F.size("blocked"))
        count, longest_lists = users.agg(F.count("*"), longest).first() or (0, 0)
        same, states = None, user_states(users) if chosen.incremental else None
        if states is not None:
            same = unchanged_users(spark, self.store, last, self.basis, states)
        due = users if same is None else _spread(users.join(same, "user_id", "left_anti"))
        due_count = count if same is None else due.count()
        found = measured(self.task, users) if chosen.ann.index is not None else {}
        task = self.task
        scored = due.select(*USER_COLUMNS).mapInArrow(
            lambda batches: score_partition(task, batches), spark_schema("recommendations")
        )
        progress = self.context.progress("score", due_count, "users")
        rows = max(1, min(chosen.block_users, BATCH_BYTES // (INDEX_BYTES * (longest_lists or 1))))
        with (
            task_progress(spark, progress, due_count),
            temporarily(spark, "spark.sql.execution.arrow.maxRecordsPerBatch", rows),
        ):
            writes = self._write_lists(scored, last, same)
        progress.close(due_count)
        lists = self.store.read(spark, "recommendations", writes["recommendations"])
        is_short = (F.col("count") < chosen.top_k).cast("long")
        counted = lists.groupBy("user_id").count().agg(F.count("*"), F.coalesce(F.sum(is_short), F.lit(0)))
        served, short = counted.first() or (0, 0)
        metrics = {
            "recommendations": self.store.required("recommendations", writes["recommendations"]).rows,
            "users_short_list": short,
            "users_without_candidates": count - served,
            "users_without_history": users.where(F.size("history") == 0).count(),
            **found,
        }
        if states is not None:
            writes[STATES] = self.store.replace(states, STATES).version
            metrics |= {"users_scored": due_count, "users_carried_over": count - due_count}
        return Lists(count, served, writes, metrics)

    def effects(self, users: DataFrame, version: int) -> dict[str, float]:
        """Count what the rules keep from whom, in a version of the lists."""
        if self.rules is None:
            return {}
        lists = self.store.read(self.context.spark, "recommendations", version)
        counts = count_rules(self.rules, self.vectors.candidate_N) | blocked_pairs(users)
        index, top_k = self.read("item_index"), self.settings.score.top_k
        return counts | blame(users, lists, index, self.vectors.folder, top_k)

    def _write_lists(self, scored: DataFrame, last: Receipt[Scored] | None, same: DataFrame | None) -> dict[str, int]:
        """Write the table recommendations and, where something re-orders the lists, lists_before."""
        spark, chosen = self.context.spark, self.settings.score
        tables, writes = {"recommendations": scored}, {}
        staging = self.context.staging / "lists"
        if chosen.rerank or chosen.explore.share:
            scored.write.parquet(spark_path(staging))
            both = read_parquet(spark, [staging], scored.schema)
            before = both.where("rank_before is not null").withColumn("rank", F.col("rank_before"))
            tables = {"recommendations": both.where("rank is not null"), "lists_before": before}
        for name, frame in tables.items():
            new = frame.select(*table_schema(name).names)
            if same is not None and last is not None:
                new = new.unionByName(carried(spark, self.store, name, last, same, self.context.date))
            writes[name] = self.store.replace(new, name).version
        staging.remove()
        return writes

    def _rules(self, *, as_trained: bool) -> ItemRules | None:
        """Return the rules of the settings; None where there are none and the catalog is as trained on."""
        settings, given, date = self.settings, catalog_rules(self.settings), self.context.date
        check_segments(self.read("users"), _segments(settings), _user_attributes(settings))
        if as_trained and given == CatalogRules() and "blocks" not in self.reads:
            return None
        catalog, attributes = self.read("catalog"), settings.inputs.items.attributes
        check_rules(catalog, given, attributes, date)
        return item_rules(ruled_items(catalog, self.read("item_index"), given, attributes, date), given, settings)


def check_conditions(context: StageContext) -> None:
    """Raise SettingsError where the rules name a column that there will not be, or hold SQL that cannot be computed."""
    rules, settings = catalog_rules(context.settings), context.settings
    if rules == CatalogRules():
        return
    spark = context.spark
    check_segments(spark.createDataFrame([], spark_schema("users")), _segments(settings), _user_attributes(settings))
    catalog = spark.createDataFrame([], spark_schema("catalog"))
    check_rules(catalog, rules, settings.inputs.items.attributes, context.date)


def _segments(settings: Settings) -> dict[str, str]:
    return {name: rule.users for name, rule in settings.score.rules.segments.items()}


def _user_attributes(settings: Settings) -> list[str]:
    return settings.inputs.users.attributes if settings.inputs.users.path else []


def _spread(users: DataFrame) -> DataFrame:
    tasks = max(users.sparkSession.sparkContext.defaultParallelism, 1)
    return users.repartition(4 * tasks, "user_id").sortWithinPartitions("segments", "user_id")
