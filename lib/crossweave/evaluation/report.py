"""The report of a run: one HTML file that needs no network, made from a ReportContent.

`render_report` turns the records into rows and geometry (percentages of bars, thumbnails, charts); the page itself is
`report.html.j2`, read through importlib.resources so that it is found inside a zip too.
"""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from crossweave.evaluation import formats
from crossweave.evaluation.pictures import thumbnail_data_uri
from crossweave.evaluation.plots import BASELINE, OURS, PALETTE, bars_svg, curve_svg
from crossweave.evaluation.report_content import (
    OVERALL_SLICE,
    HeadlineMetric,
    MetricRow,
    ReportContent,
    SliceRow,
    StageRow,
    UserCard,
)

_TEMPLATE = "report.html.j2"
_GOOD = frozenset({"done", "ok", "success", "succeeded", "complete", "completed"})
_BAD = frozenset({"failed", "error", "aborted", "killed", "refused by the gate"})


def render_report(content: ReportContent) -> str:
    """Draw the report as one self-contained HTML page.

    Every text of `content` is escaped, pictures become data URIs (a broken one becomes a placeholder), and a part
    without data says so in a sentence. The same content gives the same page.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        metric=formats.format_metric,
        count=formats.format_count,
        seconds=formats.format_seconds,
        share=formats.format_share,
        score=formats.format_score,
        curve=formats.format_curve_value,
        metric_name=formats.format_metric_name,
    )
    source = importlib.resources.files("crossweave.evaluation").joinpath(_TEMPLATE).read_text("utf-8")
    return environment.from_string(source).render(
        run=content.run,
        tone=_tone(content.run.status),
        headline=[_headline(metric) for metric in content.run.headline],
        stages=[_stage(row) for row in content.stages],
        total_seconds=sum(row.seconds for row in content.stages),
        longest=max((row.seconds for row in content.stages), default=0.0) or 1.0,
        curves=_curves(content),
        metric_rows=content.metrics,
        has_baseline=any(row.baseline is not None for row in content.metrics),
        other_baselines=list(dict.fromkeys(name for row in content.metrics for name in row.others)),
        comparisons=content.comparisons,
        left_out=content.left_out,
        refused=content.refused,
        drift=content.drift,
        pointwise=content.pointwise,
        calibration=content.calibration,
        charts=_metric_charts(content.metrics),
        families=_slice_families(content.slices),
        quarantine=content.quarantine,
        quarantined=sum(row.count for row in content.quarantine),
        worst=max((row.count for row in content.quarantine), default=0) or 1,
        cards=_cards(content.cards),
        settings=content.settings,
        ours_colour=OURS,
        baseline_colour=BASELINE,
    )


@dataclass(frozen=True)
class _Headline:
    metric: HeadlineMetric
    fill: float  # percent of the track, as are the next three
    low: float | None
    high: float | None
    baseline: float | None
    change: str


@dataclass(frozen=True)
class _Stage:
    row: StageRow
    parts: list[tuple[str, int, float]]  # class, rows, percent of what became of the rows
    quarantined: int


@dataclass(frozen=True)
class _SliceFamily:
    name: str
    metrics: list[str]
    rows: list[tuple[str, int, list[tuple[float, float] | None]]]  # slice, n, (value, percent of the column's best)


@dataclass(frozen=True)
class _ReasonBar:
    name: str
    share: float
    colour: str
    left: float  # percent of the track
    width: float


def _tone(status: str) -> str:
    word = status.strip().lower()
    return "good" if word in _GOOD else "bad" if word in _BAD else "plain"


def _percent(part: float, whole: float) -> float:
    """The share of a track, held inside it, with two decimals; 0 for anything that is not a number."""
    if not math.isfinite(part) or not math.isfinite(whole) or whole <= 0:
        return 0.0
    return round(100.0 * min(max(part / whole, 0.0), 1.0), 2)


def _headline(metric: HeadlineMetric) -> _Headline:
    known = [v for v in (metric.value, metric.low, metric.high, metric.baseline) if v is not None and math.isfinite(v)]
    track = max([*known, 1e-12]) * 1.08
    change = ""
    if metric.baseline is not None and metric.baseline > 0 and math.isfinite(metric.value):
        ratio = metric.value / metric.baseline
        change = f"{ratio:.0f} times it" if ratio >= 10 else formats.format_share(ratio - 1.0, signed=True)
    return _Headline(
        metric,
        fill=_percent(metric.value, track),
        low=None if metric.low is None else _percent(metric.low, track),
        high=None if metric.high is None else _percent(metric.high, track),
        baseline=None if metric.baseline is None else _percent(metric.baseline, track),
        change=change,
    )


def _stage(row: StageRow) -> _Stage:
    quarantined = sum(row.quarantined.values())
    parts = [("out", row.rows_out or 0), ("skipped", row.skipped), ("quarantined", quarantined)]
    total = sum(rows for _, rows in parts)
    return _Stage(row, [(name, rows, _percent(rows, total)) for name, rows in parts if rows], quarantined)


def _curves(content: ReportContent) -> list[dict[str, object]]:
    drawn = []
    for place, (name, points) in enumerate(content.curves.items()):
        finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        if finite:
            svg = Markup(curve_svg(finite, PALETTE[place % len(PALETTE)], f"curve-{place}"))
            values = [y for _, y in finite]
            drawn.append(
                {
                    "name": name,
                    "svg": svg,
                    "last": values[-1],
                    "low": min(values),
                    "high": max(values),
                }
            )
    return drawn


def _metric_charts(rows: Sequence[MetricRow]) -> list[tuple[str, Markup]]:
    """One chart a metric over the rows of the whole test set, its Ks from left to right."""
    overall = [row for row in rows if row.slice == OVERALL_SLICE and math.isfinite(row.value)]
    charts = []
    for place, metric in enumerate(dict.fromkeys(row.metric for row in overall)):
        bars = sorted((row for row in overall if row.metric == metric), key=lambda row: row.k or 0)
        svg = bars_svg(
            labels=["all" if row.k is None else f"K = {row.k}" for row in bars],
            values=[row.value for row in bars],
            intervals=[_finite_pair(row.low, row.high) for row in bars],
            baselines=[
                row.baseline if row.baseline is not None and math.isfinite(row.baseline) else None for row in bars
            ],
            name=f"metric-{place}",
        )
        charts.append((metric, Markup(svg)))
    return charts


def _finite_pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return None
    return low, high


def _slice_families(rows: Sequence[SliceRow]) -> list[_SliceFamily]:
    """Pivot to one table a family: a row for each slice and n, a column for each metric."""
    families = []
    for name in dict.fromkeys(row.family for row in rows):
        of_family = [row for row in rows if row.family == name]
        metrics = list(dict.fromkeys(row.metric for row in of_family))
        value = {(row.slice, row.n, row.metric): row.value for row in of_family}
        best = {
            m: max((abs(r.value) for r in of_family if r.metric == m and math.isfinite(r.value)), default=0.0)
            for m in metrics
        }
        table = [
            (
                slice_name,
                n,
                [
                    (value[slice_name, n, m], _percent(abs(value[slice_name, n, m]), best[m]))
                    if (slice_name, n, m) in value
                    else None
                    for m in metrics
                ],
            )
            for slice_name, n in dict.fromkeys((row.slice, row.n) for row in of_family)
        ]
        families.append(_SliceFamily(name, metrics, table))
    return families


def _cards(cards: Sequence[UserCard]) -> list[dict[str, object]]:
    shares = [_finite(r.share) for card in cards for item in card.recommended for r in item.reasons]
    below, above = max([0.0, *(-s for s in shares)]), max([0.0, *shares])
    span = below + above
    names = dict.fromkeys(r.name for card in cards for item in card.recommended for r in item.reasons)
    colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}
    thumbnails: dict[bytes, str | None] = {}

    def thumbnail(picture: bytes | None) -> str | None:
        if not picture:
            return None
        if picture not in thumbnails:
            thumbnails[picture] = thumbnail_data_uri(picture)
        return thumbnails[picture]

    def bars(reasons: Iterable[tuple[str, float]]) -> list[_ReasonBar]:
        return [
            _ReasonBar(
                name,
                share,
                colours[name],
                left=_percent(below + min(_finite(share), 0.0), span),
                width=_percent(abs(_finite(share)), span),
            )
            for name, share in reasons
        ]

    return [
        {
            "label": card.label,
            "zero": _percent(below, span),
            "hits": sum(item.in_test for item in card.recommended),
            "history": [(item, thumbnail(item.picture)) for item in card.history],
            "recommended": [
                (item, thumbnail(item.picture), bars((r.name, r.share) for r in item.reasons))
                for item in card.recommended
            ],
        }
        for card in cards
    ]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
