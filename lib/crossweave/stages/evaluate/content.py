"""What the report shows: the run, its figures, what was quarantined, and some users as cards."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from crossweave import __version__
from crossweave.artifacts.learned import LEARNED
from crossweave.artifacts.sealed import open_sealed
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
    Retrieval,
    RunSummary,
    SliceRow,
    StageRow,
    UserCard,
)
from crossweave.evaluation.sentences import sentence
from crossweave.runtime.record import StageRecord
from crossweave.stages.evaluate.drift import warnings_of
from crossweave.stages.evaluate.judging import Judging
from crossweave.stages.evaluate.pointwise import Pointwise
from crossweave.stages.evaluate.promotion import what_stays
from crossweave.stages.evaluate.shown import ShownItems, first_modality, read_shown
from crossweave.stages.evaluate.space import item_tensors, plan_map, plan_retrieval, with_vector
from crossweave.storage.records import read_json
from crossweave.tables.quarantine import grouped

HEADLINE = ("ndcg", "recall", "coverage")
HISTORY_ON_CARD, RECOMMENDED_ON_CARD = 8, 8
CHAIN = ("ingest", "pretrain", "embed", "tensors", "train", "score")  # the stages before this one
SAMPLES = 5  # of what was quarantined for one reason
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


def retrieval_figures(found: Retrieval | None) -> dict[str, float]:
    """Return Recall@K of both directions by name, such as retrieval.text_image@10."""
    if found is None:
        return {}
    there = {f"retrieval.{found.left}_{found.right}@{k}": value for k, value, _ in found.recalls}
    return there | {f"retrieval.{found.right}_{found.left}@{k}": value for k, _, value in found.recalls}


def report_content(
    judging: Judging,
    metrics: list[MetricRow],
    slices: list[SliceRow],
    unserved: Mapping[str, list[str]],
    drift: list[DriftRow],
    pairs: Pointwise,
) -> ReportContent:
    """Return all that the report shows of a judged run; `unserved` says by status why it is not served."""
    context = judging.context
    refused = [why for reasons in unserved.values() for why in reasons]
    versions = {"crossweave": __version__, "python": platform.python_version()} | {
        name: metadata.version(name) for name in PACKAGES
    }
    curves = judging.model.facts["curves"] | _learned_curves(judging)
    tensors = item_tensors(judging)
    users, on_map, retrieval = _sample_users(judging), plan_map(judging), plan_retrieval(judging, tensors)
    wanted = set(on_map.items_S.tolist()) | retrieval.items | (users.items if users is not None else set())
    sound = with_vector(tensors, first_modality(judging.settings, "image")).tolist()
    shown = read_shown(judging, wanted, sound)
    return ReportContent(
        run=RunSummary(
            run_id=context.run_id,
            date=context.date.isoformat(),
            job=context.job,
            protocol=PROTOCOLS[judging.protocol],
            status=next((status for status, reasons in unserved.items() if reasons), "done"),
            versions=versions,
            headline=headline(metrics, judging.headline_k),
        ),
        stages=_earlier_stages(judging) + [_stage_row(record) for record in context.records],
        curves={name: [(x, y) for x, y in points] for name, points in curves.items()},
        metrics=metrics,
        comparisons=judging.comparisons,
        left_out=judging.left_out,
        refused=refused,
        stays=what_stays(context),
        warnings=warnings_of(drift),
        drift=drift,
        pointwise=pairs.rows,
        calibration=pairs.calibration,
        slices=slices,
        quarantine=_quarantine(judging),
        cards=_cards(judging, users, shown),
        map=on_map.drawn(judging, shown),
        retrieval=retrieval.drawn(judging, shown),
        settings=settings_yaml(judging.settings),
    )


def _learned_curves(judging: Judging) -> dict[str, list[list[float]]]:
    """Return the curves of what encoders learned last whose vectors the chain has now."""
    embed = judging.context.receipts.latest("embed")
    used = {feature.learned for feature in embed.details.values()} - {""} if embed is not None else set()
    found: dict[str, list[list[float]]] = {}
    for fingerprint in sorted(used):
        sealed = open_sealed(LEARNED, LEARNED.place(judging.workspace, fingerprint), fingerprint)
        if sealed is not None:
            named = f"{sealed.facts['encoder']}, {sealed.facts['objective']}"
            found |= {f"{named}: {curve}": points for curve, points in sealed.facts["outcome"]["curves"].items()}
    return found


def _quarantine(judging: Judging) -> list[QuarantineRow]:
    """Return what was refused when the judged catalog and its vectors were made, beside what ever was."""
    receipts = judging.context.receipts
    ingest, embed = receipts.required("ingest"), receipts.required("embed")
    runs = [judging.context.run_id, ingest.details.refused_by or ingest.run_id, embed.run_id]
    return [
        QuarantineRow(
            r["stage"],
            r["modality"],
            r["reason"],
            r["count"],
            [(sample["item_id"], sample["detail"]) for sample in r["samples"] or ()],
            r["ever"],
        )
        for r in grouped(judging.store.read(judging.spark, "quarantine"), runs, SAMPLES)
    ]


@dataclass(frozen=True)
class _Sampled:
    """Some users, and the items of their cards."""

    rows: np.ndarray  # of the judged users
    listed: pd.DataFrame  # their recommendations, in order
    past: dict[str, list[int]]  # user -> item indices of the history

    @property
    def items(self) -> set[int]:
        return set(self.listed["item_index"]) | {item for items in self.past.values() for item in items}


def _sample_users(judging: Judging) -> _Sampled | None:
    """Draw some users by the seed."""
    assert judging.data is not None
    wanted = min(judging.settings.evaluate.sample_users, len(judging.users))
    if wanted == 0:
        return None
    with_history = np.flatnonzero(judging.data.histories.counts() > 0)
    pool = with_history if len(with_history) >= wanted else np.arange(len(judging.users))
    chosen = np.random.default_rng(judging.settings.seed).choice(pool, wanted, replace=False)
    ids = [judging.users[i] for i in chosen]
    recommendations = judging.store.read(judging.spark, "recommendations", judging.reads["recommendations"])
    top = recommendations.where(F.col("user_id").isin(ids) & (F.col("rank") <= RECOMMENDED_ON_CARD))
    top = top.withColumn("because", F.coalesce("because.item_id", F.array().cast("array<string>")))
    listed = top.join(judging.index, "item_id").orderBy("user_id", "rank").toPandas()
    events = judging.events.where(F.col("user_id").isin(ids) & (F.col("split") == "train"))
    history = events.orderBy(F.desc_nulls_last("event_time"), "item_index").toPandas()
    past = {u: history.loc[history["user_id"] == u, "item_index"].tolist()[:HISTORY_ON_CARD] for u in ids}
    return _Sampled(chosen, listed, past)


def _cards(judging: Judging, sampled: _Sampled | None, shown: ShownItems) -> list[UserCard]:
    """Show the users as cards; they are numbered, their ids stay inside."""
    assert judging.data is not None
    if sampled is None:
        return []
    lengths = judging.data.histories.counts()
    title_of = dict(zip(judging.items["item_id"], map(judging.title, range(len(judging.items))), strict=True))
    cards = []
    for number, row in enumerate(sampled.rows.tolist(), start=1):
        user = judging.users[row]
        start, stop = judging.data.relevance.indptr[row : row + 2]
        relevant = set(judging.data.relevance.indices[start:stop].tolist())
        cards.append(
            UserCard(
                f"User {number} · {int(lengths[row])} training items, {len(relevant)} held out",
                [HistoryItem(judging.title(i), shown[i].picture) for i in sampled.past[user]],
                [
                    RecommendedItem(
                        int(r.rank),
                        judging.title(r.item_index),
                        shown[r.item_index].picture,
                        float(r.score),
                        [Reason(name, share) for name, share in dict(r.reasons).items()],
                        r.item_index in relevant,
                        sentence(dict(r.reasons), [title_of[item] for item in r.because if item in title_of]),
                    )
                    for r in sampled.listed[sampled.listed["user_id"] == user].itertuples()
                ],
            )
        )
    return cards


def _earlier_stages(judging: Judging) -> list[StageRow]:
    """Return what runs before this one say of the stages that this one did not run, where their records are kept."""
    own = {record.name for record in judging.context.records}
    rows = []
    for stage in (name for name in CHAIN if name not in own):
        receipt = judging.context.receipts.latest(stage)
        path = judging.context.place.parent / (receipt.run_id if receipt is not None else "none") / "run_result.json"
        for entry in read_json(path)["stages"] if path.is_file() else []:
            if entry["name"] == stage:
                counted = entry["rows_in"] or entry["rows_out"] or None
                rows.append(
                    StageRow(
                        stage,
                        entry["seconds"],
                        counted and entry["rows_in"],
                        counted and entry["rows_out"],
                        entry["skipped"],
                        entry["quarantined"],
                        f"in run {receipt.run_id}" if receipt is not None else "",
                        earlier=True,
                    )
                )
    return rows


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
