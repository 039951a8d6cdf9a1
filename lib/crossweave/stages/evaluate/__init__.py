"""Evaluate: judges the recommendations by full ranking and writes the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.evaluation.judge import REORDERING
from crossweave.evaluation.report import render_report
from crossweave.evaluation.report_content import MetricRow, SliceRow
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.scoring.baselines import POPULARITY
from crossweave.stages.evaluate.content import headline, report_content
from crossweave.stages.evaluate.judging import PREVIOUS, Judging
from crossweave.tables.files import digest, write_atomically
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.schema import METRICS

STAGE = "evaluate"
CODE_VERSION = 4


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
    work = Judging(context, record.reads, protocol, model_folder)
    same_protocol = last is not None and last.details.get("protocol") == protocol
    metrics, slices = work.judge(last.reads["recommendations"] if last is not None and same_protocol else None)
    record.ledgers = {"users": Ledger(work.users_in, len(work.users), work.users_in - len(work.users))}
    record.writes = {"metrics": _store(work, metrics, slices, fingerprint)}
    record.metrics = {f"{row.metric}@{row.k}": row.value for row in metrics}
    record.metrics |= {f"before.{s.metric}": s.value for s in slices if (s.family, s.slice) == (REORDERING, "before")}
    for row in metrics:
        record.metrics |= {f"{name}.{row.metric}@{row.k}": value for name, value in baseline_values(row).items()}
    path = context.folder / "report.html"
    write_atomically(path, render_report(report_content(work, metrics, slices)))
    for beside in work.comparisons:
        name = f"{'previous' if beside.other == PREVIOUS else beside.other}.{beside.metric}"
        record.metrics |= {name: beside.theirs, f"{name}.difference": beside.difference}
    shown = ", ".join(
        f"{m.name} {m.value:.4f} (popularity {m.baseline:.4f})" for m in headline(metrics, work.headline_k)
    )
    verdicts = [f"{c.metric} {c.verdict} beside {PREVIOUS}" for c in work.comparisons if c.other == PREVIOUS]
    missing = [f"not compared with {name}: {why}" for name, why in work.left_out.items()]
    record.note = "\n  ".join([shown, *([", ".join(verdicts)] if verdicts else []), *missing, f"report: {path}"])
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


def baseline_values(row: MetricRow) -> dict[str, float]:
    """Return a metric's values of the baselines, by name."""
    return {POPULARITY: row.baseline or 0.0, **row.others}


def _store(judging: Judging, metrics: list[MetricRow], slices: list[SliceRow], fingerprint: str) -> int:
    """Append the figures to the table metrics; returns its version."""
    date, store = judging.context.date, judging.store
    rows: list[tuple[Any, ...]] = [(date, m.metric, m.k, m.slice, m.value, m.low, m.high, m.users) for m in metrics]
    for m in metrics:
        for name, value in baseline_values(m).items():
            rows.append((date, f"{name}.{m.metric}", m.k, m.slice, value, None, None, m.users))
    for s in slices:
        metric, k = s.metric.split("@")
        rows.append((date, metric, int(k), f"{s.family}: {s.slice}", s.value, None, None, s.n))
    head = store.snapshot("metrics")
    if head is not None and store.has_committed("metrics", fingerprint):
        return head.version
    folder = store.fresh_folder("metrics")
    folder.mkdir(parents=True)
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), METRICS.types, strict=True)]
    pq.write_table(pa.table(columns, schema=METRICS), folder / "part-0.parquet")
    base = head.version if head else None
    files = [folder / "part-0.parquet"]
    return store.commit("metrics", files, "append", base=base, once=fingerprint).version
