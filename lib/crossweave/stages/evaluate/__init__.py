"""Evaluate: judges the recommendations by full ranking and writes the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.evaluation.judge import REORDERING
from crossweave.evaluation.report import render_report
from crossweave.evaluation.report_content import HeadlineMetric, MetricRow, SliceRow
from crossweave.redaction import without_remembered
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.serving import withdrawn
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.scoring.baselines import POPULARITY
from crossweave.stages.evaluate.content import headline, report_content, retrieval_figures
from crossweave.stages.evaluate.drift import drift_rows, of_the_data, warnings_of
from crossweave.stages.evaluate.judging import PREVIOUS, Judging
from crossweave.stages.evaluate.leakage import check_lists
from crossweave.stages.evaluate.pointwise import judge_pairs
from crossweave.stages.evaluate.promotion import (
    as_details,
    chain_before,
    check_gate,
    check_gate_tonight,
    knows_enough,
    lists_before,
    reasons_against,
    reconsidered,
    settle,
)
from crossweave.stages.evaluate.slicing import check_slices
from crossweave.storage.location import Location
from crossweave.tables.receipt_details import Evaluated
from crossweave.tables.receipts import Receipt
from crossweave.tables.schema import METRICS
from crossweave.tables.served import Chain

STAGE = "evaluate"
CODE_VERSION = 8


def check_evaluation(settings: Settings) -> None:
    """Raise SettingsError where metrics are asked for below the lists' end."""
    if max(settings.evaluate.ks) > settings.score.top_k:
        raise SettingsError(
            f"evaluate.ks asks for K={max(settings.evaluate.ks)}, but lists end at score.top_k={settings.score.top_k}",
            "raise score.top_k or drop that K",
        )
    check_gate(settings)
    check_slices(settings)


@dataclass(frozen=True)
class EvaluateBasis(Basis):
    """The chain that made the lists."""

    chain: Chain


class Evaluate(Stage[EvaluateBasis]):
    """Computes the metrics of the last score stage and writes `report.html` into the run's folder.

    Appends to the table metrics. The run is served from then on, unless evaluate.gate refuses it: the report and the
    figures are there, the old run stays served, and PromotionRefusedError says why.
    """

    name = STAGE

    def check(self, settings: Settings) -> None:
        """Compare metrics, gate and slices with what the lists and tables will have."""
        check_evaluation(settings)

    def basis(self, context: StageContext) -> EvaluateBasis:
        """Take the last lists, and all that they were made from."""
        settings = context.settings
        check_evaluation(settings)
        chain = Chain.latest(context.workspace)
        if (chain.score.details.model or chain.model) != chain.model:
            raise SettingsError(
                "the lists were made by another model than the last trained one", "run ./submit.sh score"
            )
        check_gate_tonight(context, chain.protocol)
        tables = ("catalog", "history", *(("users",) if settings.evaluate.user_slices else ()))
        reads = {name: chain.ingest.writes[name] for name in tables} | chain.tensors.writes | chain.score.writes
        facts = {
            "code": CODE_VERSION,
            "reads": context.tables.identities(reads),
            "settings": settings.evaluate.model_dump(exclude={"gate"}),  # which judges what was judged
            "date": context.date.isoformat(),
            "model": chain.train.fingerprint,
            "seed": settings.seed,
        }
        return EvaluateBasis(reads, facts, chain)

    def made(self, context: StageContext, basis: EvaluateBasis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Find these lists judged, with the report still there; the gate of tonight's settings is asked anew."""
        found = super().made(context, basis, last)
        if found is None or not Location.of(found.details.report).is_file() or not knows_enough(context, found):
            return None
        return reconsidered(context, found)

    def nothing_to_do(
        self, context: StageContext, basis: EvaluateBasis, receipt: Receipt[Evaluated], record: StageRecord
    ) -> None:
        """Say again how the lists were judged."""
        record.nothing_to_do(receipt.rows, basis.reads, receipt.details.summary)

    def run(
        self, context: StageContext, basis: EvaluateBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Evaluated]:
        """Judge the lists, and look for what has drifted since the run before."""
        chain = basis.chain
        check_lists(context, basis.reads)
        work = Judging(context, basis.reads, chain)
        metrics, slices = work.judge(lists_before(context, chain, last))
        before = chain_before(context, chain)
        drift, unknown = drift_rows(work, before, chain)
        pairs = judge_pairs(work, chain)
        refused = reasons_against(context, work.comparisons, work.left_out)
        record.ledgers = {"users": Ledger(work.users_in, len(work.users), work.users_in - len(work.users))}
        record.writes = {"metrics": _store(work, metrics, slices, basis.fingerprint)}
        path = context.place / "report.html"
        unserved = {"refused by the gate": refused, "taken back": list(filter(None, [withdrawn(context, chain)]))}
        content = report_content(work, metrics, slices, unserved, drift, pairs)
        path.put(without_remembered(render_report(content)))
        record.metrics = _of_rankings(work, metrics, slices) | retrieval_figures(content.retrieval) | pairs.metrics
        record.metrics |= {f"drift.{row.name.replace(' ', '_')}": row.value for row in drift}
        record.notes = [f"not compared with {name}: {why}" for name, why in work.left_out.items()]
        record.notes += [f"drift is not known: {unknown}"] if unknown else []
        record.notes += pairs.notes
        record.warnings = warnings_of(drift)
        record.note = _summary(work, metrics, path)
        figures = [_plain(figure) for figure in headline(metrics, work.headline_k)]
        record.facts = {"headline": figures}
        details = Evaluated(
            report=str(path),
            summary=record.note,
            protocol=chain.protocol,
            refused=refused,
            judged=chain.score.run_id,
            comparisons=as_details(work.comparisons, work.left_out),
            drifted=warnings_of(of_the_data(drift, before, chain)),
            headline=figures,
        )
        return basis.receipt(context, record, details)

    def settle(
        self, context: StageContext, basis: EvaluateBasis, receipt: Receipt[Evaluated], record: StageRecord
    ) -> None:
        """Serve the judged chain, or refuse it."""
        settle(context, record, basis.chain, receipt)


EVALUATE = Evaluate()


def _plain(figure: HeadlineMetric) -> dict[str, Any]:
    """Return a figure of the summary as the record and the receipt keep it."""
    values = {"value": figure.value, "low": figure.low, "high": figure.high}
    known = {key: value for key, value in values.items() if value is not None and math.isfinite(value)}
    return {"name": figure.name, **{key: float(known[key]) if key in known else None for key in values}}


def _of_rankings(work: Judging, metrics: list[MetricRow], slices: list[SliceRow]) -> dict[str, float]:
    """Return what the record keeps of the lists: metrics, those of the baselines, gaps and paired differences."""
    figures = {f"{row.metric}@{row.k}": row.value for row in metrics}
    figures |= {f"before.{s.metric}": s.value for s in slices if (s.family, s.slice) == (REORDERING, "before")}
    for row in metrics:
        figures |= {f"{name}.{row.metric}@{row.k}": value for name, value in baseline_values(row).items()}
    figures |= work.gaps
    for beside in work.comparisons:
        name = f"{'previous' if beside.other == PREVIOUS else beside.other}.{beside.metric}"
        figures |= {name: beside.theirs, f"{name}.difference": beside.difference}
    return figures


def _summary(work: Judging, metrics: list[MetricRow], path: Location) -> str:
    """Return what the job ends with: the headline, the verdict beside the last run, and where the report lies."""
    shown = (f"{m.name} {m.value:.4f} (popularity {m.baseline:.4f})" for m in headline(metrics, work.headline_k))
    verdicts = [f"{c.metric} {c.verdict} beside {PREVIOUS}" for c in work.comparisons if c.other == PREVIOUS]
    return "\n  ".join([", ".join(shown), *([", ".join(verdicts)] if verdicts else []), f"report: {path}"])


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
        metric, _, k = s.metric.partition("@")
        rows.append((date, metric, int(k) if k else None, f"{s.family}: {s.slice}", s.value, None, None, s.n))
    head = store.snapshot("metrics")
    if head is not None and store.has_committed("metrics", fingerprint):
        return head.version
    place = store.fresh_folder("metrics") / "part-0.parquet"
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), METRICS.types, strict=True)]
    with place.placing() as path:
        pq.write_table(pa.table(columns, schema=METRICS), path)
    base = head.version if head else None
    return store.commit("metrics", [place], "append", base=base, once=fingerprint).version
