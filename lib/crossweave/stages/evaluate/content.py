"""What the report shows: the run, its figures, what was quarantined, and some users as cards."""

from __future__ import annotations

import platform
from importlib import metadata

import numpy as np
from pyspark.sql import functions as F

from crossweave import __version__
from crossweave.config import settings_yaml
from crossweave.evaluation.report_content import (
    DriftRow,
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
from crossweave.runtime.record import StageRecord
from crossweave.stages.evaluate.judging import Judging
from crossweave.stages.evaluate.pointwise import Pointwise
from crossweave.tables.files import read_json
from crossweave.tables.source import check_source, read_source

HEADLINE = ("ndcg", "recall", "coverage")
HISTORY_ON_CARD, RECOMMENDED_ON_CARD = 8, 8
PROTOCOLS = {
    "warm": "Every user with test rows; all items but the user's own train and validation items are ranked.",
    "cold": "Every user with rows on withheld items; only the withheld items are ranked.",
}
PACKAGES = ("pyspark", "torch", "transformers", "petastorm", "horovod", "pyarrow", "deltalake")


def headline(metrics: list[MetricRow], k: int) -> list[HeadlineMetric]:
    """Return the figures of the summary, at K."""
    return [
        HeadlineMetric(f"{row.metric}@{row.k}", row.value, row.low, row.high, row.baseline)
        for name in HEADLINE
        for row in metrics
        if row.metric == name and row.k == k
    ]


def report_content(
    judging: Judging,
    metrics: list[MetricRow],
    slices: list[SliceRow],
    refused: list[str],
    drift: list[DriftRow],
    pairs: Pointwise,
) -> ReportContent:
    """Return all that the report shows of a judged run."""
    context = judging.context
    versions = {"crossweave": __version__, "python": platform.python_version()} | {
        name: metadata.version(name) for name in PACKAGES
    }
    curves = read_json(judging.model_folder / "model.json")["curves"]
    return ReportContent(
        run=RunSummary(
            run_id=context.run_id,
            date=context.date.isoformat(),
            job=context.job,
            protocol=PROTOCOLS[judging.protocol],
            status="refused by the gate" if refused else "done",
            versions=versions,
            headline=headline(metrics, judging.headline_k),
        ),
        stages=[_stage_row(record) for record in context.records],
        curves={name: [(x, y) for x, y in points] for name, points in curves.items()},
        metrics=metrics,
        comparisons=judging.comparisons,
        left_out=judging.left_out,
        refused=refused,
        drift=drift,
        pointwise=pairs.rows,
        calibration=pairs.calibration,
        slices=slices,
        quarantine=_quarantine(judging),
        cards=_cards(judging),
        settings=settings_yaml(judging.settings),
    )


def _quarantine(judging: Judging) -> list[QuarantineRow]:
    rows = judging.store.read(judging.spark, "quarantine")
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


def _cards(judging: Judging) -> list[UserCard]:
    """Show some users, drawn by the seed; they are numbered, their ids stay inside."""
    assert judging.data is not None
    wanted = min(judging.settings.evaluate.sample_users, len(judging.users))
    if wanted == 0:
        return []
    lengths = judging.data.histories.counts()
    with_history = np.flatnonzero(lengths > 0)
    pool = with_history if len(with_history) >= wanted else np.arange(len(judging.users))
    chosen = np.random.default_rng(judging.settings.seed).choice(pool, wanted, replace=False)
    ids = [judging.users[i] for i in chosen]
    recommendations = judging.store.read(judging.spark, "recommendations", judging.reads["recommendations"])
    top = recommendations.where(F.col("user_id").isin(ids) & (F.col("rank") <= RECOMMENDED_ON_CARD))
    top = top.withColumn("because", F.coalesce("because.item_id", F.array().cast("array<string>")))
    listed = top.join(judging.index, "item_id").orderBy("user_id", "rank").toPandas()
    past = judging.events.where(F.col("user_id").isin(ids) & (F.col("split") == "train"))
    history = past.orderBy(F.desc_nulls_last("event_time"), "item_index").toPandas()
    shown = {u: history.loc[history["user_id"] == u, "item_index"].tolist()[:HISTORY_ON_CARD] for u in ids}
    needed = set(listed["item_index"]) | {item for items in shown.values() for item in items}
    pictures = _pictures(judging, sorted(needed))
    titles = [
        str(name) if name else str(item)
        for name, item in zip(judging.items["title"], judging.items["item_id"], strict=True)
    ]
    title_of = dict(zip(judging.items["item_id"], titles, strict=True))
    cards = []
    for number, (row, user) in enumerate(zip(chosen, ids, strict=True), start=1):
        start, stop = judging.data.relevance.indptr[row : row + 2]
        relevant = set(judging.data.relevance.indices[start:stop].tolist())
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


def _pictures(judging: Judging, item_indices: list[int]) -> dict[int, bytes]:
    """Read the pictures of a few items from the input table."""
    images = [m.columns[0] for m in judging.settings.modalities.values() if m.kind == "image"]
    if not images or not item_indices:
        return {}
    ids = {judging.items["item_id"].iat[i]: i for i in item_indices}
    items = judging.settings.inputs.items
    source = read_source(judging.spark, check_source(lambda: judging.spark, "items", items.path, {}, items.derived))
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
