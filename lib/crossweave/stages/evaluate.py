"""Evaluate: judges the recommendations by full ranking and writes the report."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave import __version__
from crossweave.config import Settings, settings_yaml
from crossweave.errors import InputContractError, SettingsError, TableError
from crossweave.evaluation.judge import REORDERING, Judged, compare_lists, judge
from crossweave.evaluation.metrics import Relevance
from crossweave.evaluation.report import render_report
from crossweave.evaluation.report_content import (
    ComparisonRow,
    HeadlineMetric,
    HistoryItem,
    MetricRow,
    QuarantineRow,
    Reason,
    RecommendedItem,
    ReportContent,
    RunSummary,
    SliceRow,
    StageRow,
    UserCard,
)
from crossweave.evaluation.sentences import sentence
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.scoring.topk import PAD, top_k
from crossweave.tables.files import digest, read_json, write_atomically
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.schema import METRICS
from crossweave.tables.source import check_source, read_source
from crossweave.tables.store import TableStore

STAGE = "evaluate"
CODE_VERSION = 3
PREVIOUS = "the run before"
HEADLINE = ("ndcg", "recall", "coverage")
HISTORY_ON_CARD, RECOMMENDED_ON_CARD = 8, 8
PROTOCOLS = {
    "warm": "Every user with test rows; all items but the user's own train and validation items are ranked.",
    "cold": "Every user with rows on withheld items; only the withheld items are ranked.",
}
PACKAGES = ("pyspark", "torch", "transformers", "petastorm", "horovod", "pyarrow", "deltalake")


def check_evaluation(settings: Settings) -> None:
    """Raise SettingsError where metrics are asked for below the lists' end."""
    if max(settings.evaluate.ks) > settings.score.top_k:
        raise SettingsError(
            f"evaluate.ks asks for K={max(settings.evaluate.ks)}, but lists end at score.top_k={settings.score.top_k}",
            "raise score.top_k or drop that K",
        )


def evaluate(context: StageContext, record: StageRecord) -> None:
    """Compute the metrics of the last score stage and write `report.html` into the run's folder.

    Appends to the table metrics.
    """
    settings = context.settings
    check_evaluation(settings)
    receipts = Receipts(context.workspace)
    trained, scored = receipts.required("train"), receipts.required("score")
    record.reads, fingerprint = _inputs(context)
    last = receipts.latest(STAGE)
    if last is not None and is_current(context):
        record.nothing_to_do(last.rows, record.reads, last.details["summary"])
        return
    model_folder = context.workspace / "models" / trained.details["folder"]
    protocol = scored.details["protocol"]
    work = _Evaluation(context, record.reads, protocol, model_folder)
    same_protocol = last is not None and last.details.get("protocol") == protocol
    metrics, slices = work.judge(last.reads["recommendations"] if last is not None and same_protocol else None)
    record.ledgers = {"users": Ledger(work.users_in, len(work.users), work.users_in - len(work.users))}
    record.writes = {"metrics": work.store_metrics(metrics, slices, fingerprint)}
    record.metrics = {f"{row.metric}@{row.k}": row.value for row in metrics}
    record.metrics |= {f"before.{s.metric}": s.value for s in slices if (s.family, s.slice) == (REORDERING, "before")}
    record.metrics |= {f"popularity.{row.metric}@{row.k}": row.baseline or 0.0 for row in metrics}
    curves = read_json(model_folder / "model.json")["curves"]
    path = context.folder / "report.html"
    write_atomically(path, render_report(work.content(metrics, slices, curves)))
    for row in work.comparisons:
        name = f"{'previous' if row.other == PREVIOUS else row.other}.{row.metric}"
        record.metrics |= {name: row.theirs, f"{name}.difference": row.difference}
    shown = ", ".join(f"{m.name} {m.value:.4f} (popularity {m.baseline:.4f})" for m in work.headline(metrics))
    verdicts = [f"{c.metric} {c.verdict} beside {PREVIOUS}" for c in work.comparisons if c.other == PREVIOUS]
    record.note = "\n  ".join([shown, *([", ".join(verdicts)] if verdicts else []), f"report: {path}"])
    details = {"report": str(path), "summary": record.note, "protocol": protocol}
    receipts.publish(Receipt(STAGE, fingerprint, context.run_id, record.reads, record.writes, work.users_in, details))


def is_current(context: StageContext) -> bool:
    """Say whether tonight's recommendations are judged, and the report is still there."""
    last = Receipts(context.workspace).latest(STAGE)
    return last is not None and last.fingerprint == _inputs(context)[1] and Path(last.details["report"]).is_file()


def _inputs(context: StageContext) -> tuple[dict[str, int], str]:
    """Return the table versions to read and the fingerprint of all that decides the result."""
    settings, receipts = context.settings, Receipts(context.workspace)
    ingest, tensors, trained, scored = (receipts.required(n) for n in ("ingest", "tensors", "train", "score"))
    reads = {name: ingest.writes[name] for name in ("catalog", "interactions")} | tensors.writes | scored.writes
    facts = {
        "code": CODE_VERSION,
        "reads": reads,
        "settings": settings.evaluate.model_dump(),
        "date": context.date.isoformat(),
        "model": trained.fingerprint,
        "seed": settings.seed,
    }
    return reads, digest(facts)


class _Evaluation:
    """One evaluation: the tables it reads, the users it judges, the report it fills."""

    def __init__(self, context: StageContext, reads: dict[str, int], protocol: str, model_folder: Path) -> None:
        self.context, self.settings, self.protocol = context, context.settings, protocol
        self.spark, self.model_folder = context.spark, model_folder
        self.store = TableStore(context.workspace / "tables")
        self.reads = reads
        self.index = self.store.read(self.spark, "item_index", reads["item_index"])
        # Removed items too: they keep their place in the index.
        catalog = self.store.read(self.spark, "catalog", reads["catalog"])
        self.known = catalog.join(self.index, "item_id")
        columns = ("item_index", "item_id", "title", "cold", F.map_keys("hashes").alias("has"))
        self.items = self.known.select(*columns).orderBy("item_index").toPandas()
        self.events = self._events()
        self.users_in = 0
        self.users: list[str] = []
        self.data: Judged | None = None
        self.comparisons: list[ComparisonRow] = []

    def _events(self) -> DataFrame:
        """Return distinct (user, item, split) with item indices; under the cold protocol with the cold flag."""
        events = self.store.read(self.spark, "interactions", self.reads["interactions"])
        return (
            events.join(self.known.select("item_id", "item_index", "cold"), "item_id")
            .groupBy("user_id", "item_index", "split", "cold")
            .agg(F.max("event_time").alias("event_time"))
        )

    def judge(self, previous: int | None) -> tuple[list[MetricRow], list[SliceRow]]:
        """Judge the lists of every user that has something relevant, also beside a `previous` version of the table."""
        trained = F.col("split") == "train"
        if self.protocol == "cold":
            relevant, seen, trained = F.col("cold"), F.lit(False), trained & ~F.col("cold")
        else:
            relevant, seen = F.col("split") == "test", F.col("split").isin(*self.settings.score.seen_splits)
        pick = lambda rule: F.sort_array(F.collect_set(F.when(rule, F.col("item_index"))))  # noqa: E731
        by_user = self.events.groupBy("user_id").agg(
            pick(relevant).alias("relevant"), pick(seen).alias("seen"), pick(trained).alias("history")
        )
        everybody = by_user.join(self._lists("recommendations"), "user_id", "full_outer")
        if "lists_before" in self.reads:
            before = self._lists("lists_before").withColumnRenamed("recommended", "before")
            everybody = everybody.join(before.drop("explored"), "user_id", "left")
        if (earlier := self._earlier(previous)) is not None:
            everybody = everybody.join(earlier, "user_id", "left")
        self.users_in = everybody.count()
        judged = everybody.where(F.size("relevant") > 0).orderBy("user_id").toPandas()
        if judged.empty:
            raise InputContractError(
                f"no user has a relevant item under the {self.protocol} protocol, so there is nothing to judge by",
                "check split.method, the split column and the quarantine",
            )
        self.users = judged["user_id"].tolist()
        popularity = self.events.where(trained).groupBy("item_index").count().toPandas()
        popularity_N = np.zeros(len(self.items))
        popularity_N[popularity["item_index"]] = popularity["count"]
        modalities = len(self.settings.modalities)
        candidates_N = self.items["cold"].to_numpy(bool) if self.protocol == "cold" else np.ones(len(self.items), bool)
        width = self.settings.score.top_k
        self.data = Judged(
            recommended_UK=_padded(judged["recommended"], width),
            baseline_UK=_by_popularity(popularity_N, candidates_N, judged["seen"], width),
            relevance=Relevance.from_lists(judged["relevant"]),
            histories=Relevance.from_lists(judged["history"]),
            candidates_U=_candidates(candidates_N, judged["seen"], judged["relevant"]),
            vectors_ND=self._item_vectors(),
            popularity_N=popularity_N,
            candidates_N=candidates_N,
            missing_N=modalities - self.items["has"].map(len).to_numpy(np.int64),
            before_UK=_padded(judged["before"], width) if "before" in judged else None,
            explored_UK=_padded(judged["explored"], width) == 1,
        )
        evaluate = self.settings.evaluate
        others = {"popularity": self.data.baseline_UK}
        if "earlier" in judged:
            others = {PREVIOUS: _padded(judged["earlier"], width)} | others
        self.comparisons = compare_lists(
            self.data, others, self._headline_k(), seed=self.settings.seed, resamples=evaluate.bootstrap
        )
        return judge(self.data, evaluate.ks, seed=self.settings.seed, resamples=evaluate.bootstrap)

    def _item_vectors(self) -> np.ndarray:
        """Return what scoring multiplies users with, less the mean: what all items share makes none alike."""
        vectors_ND = np.load(self.model_folder / "target.npy")
        return np.asarray(vectors_ND - vectors_ND.mean(axis=0))

    def _earlier(self, version: int | None) -> DataFrame | None:
        """Return user_id and earlier, the lists of another version, where that is still to be read and is another."""
        if version is None or version == self.reads["recommendations"]:
            return None
        try:
            lists = self._lists("recommendations", version)
        except TableError:
            return None  # garbage collection took it
        return lists.select("user_id", F.slice("recommended", 1, self.settings.score.top_k).alias("earlier"))

    def _headline_k(self) -> int:
        return min(self.settings.evaluate.ks, key=lambda value: abs(value - 20))

    def _lists(self, table: str, version: int | None = None) -> DataFrame:
        """Return user_id, recommended (item indices, best first) and explored (1 where a place is), by user."""
        rows = self.store.read(self.spark, table, self.reads[table] if version is None else version)
        explored = F.coalesce("explored", F.lit(False)) if "explored" in rows.columns else F.lit(False)
        place = F.struct("rank", "item_index", explored.cast("int").alias("explored"))
        ranked = rows.join(self.index, "item_id").groupBy("user_id").agg(F.sort_array(F.collect_list(place)).alias("_"))
        return ranked.select(
            "user_id", F.col("_.item_index").alias("recommended"), F.col("_.explored").alias("explored")
        )

    def store_metrics(self, metrics: list[MetricRow], slices: list[SliceRow], fingerprint: str) -> int:
        """Append the figures to the table metrics; returns its version."""
        date = self.context.date
        rows: list[tuple[Any, ...]] = [(date, m.metric, m.k, m.slice, m.value, m.low, m.high, m.users) for m in metrics]
        rows += [(date, f"popularity.{m.metric}", m.k, m.slice, m.baseline, None, None, m.users) for m in metrics]
        for s in slices:
            metric, k = s.metric.split("@")
            rows.append((date, metric, int(k), f"{s.family}: {s.slice}", s.value, None, None, s.n))
        head = self.store.snapshot("metrics")
        if head is not None and self.store.has_committed("metrics", fingerprint):
            return head.version
        folder = self.store.fresh_folder("metrics")
        folder.mkdir(parents=True)
        columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), METRICS.types, strict=True)]
        pq.write_table(pa.table(columns, schema=METRICS), folder / "part-0.parquet")
        base = head.version if head else None
        files = [folder / "part-0.parquet"]
        return self.store.commit("metrics", files, "append", base=base, once=fingerprint).version

    # The report ------------------------------------------------------------------------------------------------

    def headline(self, metrics: list[MetricRow]) -> list[HeadlineMetric]:
        """Return the figures of the summary, at the K nearest to 20."""
        k = self._headline_k()
        return [
            HeadlineMetric(f"{row.metric}@{row.k}", row.value, row.low, row.high, row.baseline)
            for name in HEADLINE
            for row in metrics
            if row.metric == name and row.k == k
        ]

    def content(
        self, metrics: list[MetricRow], slices: list[SliceRow], curves: dict[str, list[list[float]]]
    ) -> ReportContent:
        """Fill the report."""
        context = self.context
        versions = {"crossweave": __version__, "python": platform.python_version()} | {
            name: metadata.version(name) for name in PACKAGES
        }
        return ReportContent(
            run=RunSummary(
                run_id=context.run_id,
                date=context.date.isoformat(),
                job=context.job,
                protocol=PROTOCOLS[self.protocol],
                status="done",
                versions=versions,
                headline=self.headline(metrics),
            ),
            stages=[_stage_row(record) for record in context.records],
            curves={name: [(x, y) for x, y in points] for name, points in curves.items()},
            metrics=metrics,
            comparisons=self.comparisons,
            slices=slices,
            quarantine=self._quarantine(),
            cards=self._cards(),
            settings=settings_yaml(self.settings),
        )

    def _quarantine(self) -> list[QuarantineRow]:
        rows = self.store.read(self.spark, "quarantine")
        rows = rows.dropDuplicates(["stage", "modality", "reason", "item_id", "user_id", "detail"])
        groups = rows.groupBy("stage", F.coalesce("modality", "entity").alias("modality"), "reason").agg(
            F.count("*").alias("count"), F.min(F.struct("item_id", "detail")).alias("example")
        )
        return [
            QuarantineRow(
                r["stage"],
                r["modality"],
                r["reason"],
                r["count"],
                r["example"]["detail"],
                r["example"]["item_id"] or "",
            )
            for r in groups.orderBy("stage", "modality", "reason").collect()
        ]

    def _cards(self) -> list[UserCard]:
        """Show some users, drawn by the seed; they are numbered, their ids stay inside."""
        assert self.data is not None
        wanted = min(self.settings.evaluate.sample_users, len(self.users))
        if wanted == 0:
            return []
        lengths = self.data.histories.counts()
        with_history = np.flatnonzero(lengths > 0)
        pool = with_history if len(with_history) >= wanted else np.arange(len(self.users))
        chosen = np.random.default_rng(self.settings.seed).choice(pool, wanted, replace=False)
        ids = [self.users[i] for i in chosen]
        recommendations = self.store.read(self.spark, "recommendations", self.reads["recommendations"])
        top = recommendations.where(F.col("user_id").isin(ids) & (F.col("rank") <= RECOMMENDED_ON_CARD))
        top = top.withColumn("because", F.coalesce("because.item_id", F.array().cast("array<string>")))
        listed = top.join(self.index, "item_id").orderBy("user_id", "rank").toPandas()
        past = self.events.where(F.col("user_id").isin(ids) & (F.col("split") == "train"))
        history = past.orderBy(F.desc_nulls_last("event_time"), "item_index").toPandas()
        shown = {u: history.loc[history["user_id"] == u, "item_index"].tolist()[:HISTORY_ON_CARD] for u in ids}
        needed = set(listed["item_index"]) | {item for items in shown.values() for item in items}
        pictures = self._pictures(sorted(needed))
        titles = [
            str(name) if name else str(item)
            for name, item in zip(self.items["title"], self.items["item_id"], strict=True)
        ]
        title_of = dict(zip(self.items["item_id"], titles, strict=True))
        cards = []
        for number, (row, user) in enumerate(zip(chosen, ids, strict=True), start=1):
            start, stop = self.data.relevance.indptr[row : row + 2]
            relevant = set(self.data.relevance.indices[start:stop].tolist())
            cards.append(
                UserCard(
                    f"User {number} · {int(lengths[row])} training items, {len(relevant)} held out",
                    [HistoryItem(titles[i], pictures.get(i)) for i in shown[user]],
                    [
                        RecommendedItem(
                            int(r.rank),
                            titles[r.item_index],
                            pictures.get(r.item_index),
                            float(r.score),
                            [Reason(name, share) for name, share in dict(r.reasons).items()],
                            r.item_index in relevant,
                            sentence(dict(r.reasons), [title_of[item] for item in r.because if item in title_of]),
                        )
                        for r in listed[listed["user_id"] == user].itertuples()
                    ],
                )
            )
        return cards

    def _pictures(self, item_indices: list[int]) -> dict[int, bytes]:
        """Read the pictures of a few items from the input table."""
        images = [m.columns[0] for m in self.settings.modalities.values() if m.kind == "image"]
        if not images or not item_indices:
            return {}
        ids = {self.items["item_id"].iat[i]: i for i in item_indices}
        items = self.settings.inputs.items
        source = read_source(self.spark, check_source(lambda: self.spark, "items", items.path, {}, items.derived))
        item_id = F.col(items.id).cast("string")
        rows = source.where(item_id.isin(list(ids))).select(item_id.alias("id"), F.col(images[0]).alias("picture"))
        return {ids[r["id"]]: bytes(r["picture"]) for r in rows.collect() if r["picture"]}


def _stage_row(record: StageRecord) -> StageRow:
    total = record.total
    counted = bool(record.ledgers)
    return StageRow(
        record.name,
        record.elapsed,
        total.rows_in if counted else None,
        total.rows_out if counted else None,
        total.skipped,
        total.quarantined,
        "nothing to do" if record.noop else "",
    )


def _padded(lists: pd.Series, width: int) -> np.ndarray:
    """Return lists as int64 [U, width], PAD behind their end; a missing list is empty."""
    padded = np.full((len(lists), width), PAD, np.int64)
    for row, items in enumerate(lists):
        if items is not None:
            padded[row, : len(items)] = items
    return padded


def _candidates(candidates_N: np.ndarray, seen: pd.Series, relevant: pd.Series) -> np.ndarray:
    """Count what could have been listed for each user; what is relevant counts though it was seen too."""
    hidden = [
        np.setdiff1d(np.asarray(mine, np.int64), np.asarray(wanted, np.int64))
        for mine, wanted in zip(seen, relevant, strict=True)
    ]
    return np.array([int(candidates_N.sum() - candidates_N[items].sum()) for items in hidden], np.int64)


def _by_popularity(popularity_N: np.ndarray, candidates_N: np.ndarray, seen: pd.Series, k: int) -> np.ndarray:
    """Rank the candidates by training interactions with the same kernel and the same masks."""
    one_U1 = torch.ones(len(seen), 1)
    item_N1 = torch.from_numpy(popularity_N.astype(np.float32))[:, None]
    masked = [np.asarray(items, np.int64) for items in seen]
    best = top_k(one_U1, item_N1, torch.zeros(len(item_N1)), k, allowed_N=torch.from_numpy(candidates_N), masked=masked)
    return best.items_UK
