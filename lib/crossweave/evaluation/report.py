"""The report of a run: one HTML file that needs no network, made from a ReportContent.

`render_report` turns the records into rows and geometry (percentages of bars, thumbnails, charts); the page itself is
`report.html.j2`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from crossweave.evaluation import formats
from crossweave.evaluation.colours import PALETTE
from crossweave.evaluation.pages import page_environment, tone_of
from crossweave.evaluation.pictures import thumbnail_data_uri
from crossweave.evaluation.plots import bars_svg, calibration_svg, curve_svg
from crossweave.evaluation.report_content import (
    OVERALL_SLICE,
    CalibrationRow,
    ComparisonRow,
    HeadlineMetric,
    MetricRow,
    ReportContent,
    SliceRow,
    StageRow,
    UserCard,
)
from crossweave.evaluation.report_spaces import example_views, map_view

_TEMPLATE = "report.html.j2"


def render_report(content: ReportContent) -> str:
    """Draw the report as one self-contained HTML page.

    Every text of `content` is escaped, pictures become data URIs (a broken one becomes a placeholder), and a part
    without data says so in a sentence. The same content gives the same page.
    """
    thumbnail = functools.cache(thumbnail_data_uri)
    return (
        page_environment()
        .get_template(_TEMPLATE)
        .render(
            run=content.run,
            tone=tone_of(content.run.status),
            headline=[_headline(metric) for metric in content.run.headline],
            stages=[_stage(row) for row in content.stages],
            total_seconds=sum(row.seconds for row in content.stages if not row.earlier),
            longest=max((row.seconds for row in content.stages), default=0.0) or 1.0,
            curves=_curves(content),
            metric_rows=content.metrics,
            has_baseline=any(row.baseline is not None for row in content.metrics),
            other_baselines=list(dict.fromkeys(name for row in content.metrics for name in row.others)),
            left_out=content.left_out,
            refused=content.refused,
            stays=content.stays,
            warnings=content.warnings,
            drift=content.drift,
            pointwise=content.pointwise,
            calibration=content.calibration,
            calibration_chart=_calibration_chart(content.calibration),
            comparisons=_differences(content.comparisons),
            charts=_metric_charts(content.metrics),
            families=_slice_families(content.slices, _headline_at(content.run.headline)),
            quarantine=[row for row in content.quarantine if row.count],
            quarantined_ever=sum(max(row.count, row.ever) for row in content.quarantine),
            quarantined=sum(row.count for row in content.quarantine),
            worst=max((row.count for row in content.quarantine), default=0) or 1,
            map=map_view(content.map),
            retrieval=content.retrieval,
            examples=example_views(content.retrieval, thumbnail),
            cards=_cards(content.cards, thumbnail),
            settings=content.settings,
        )
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
    brief: list[int]  # places of the columns that stand unfolded
    rows: list[tuple[str, int, list[tuple[float, float] | None]]]  # slice, n, (value, percent of the column's best)


@dataclass(frozen=True)
class _DifferenceBar:
    row: ComparisonRow
    zero: float  # percent of the track, as are the next three
    low: float
    high: float
    point: float
    ours: float  # percent of the largest value of the metric
    theirs: float


@dataclass(frozen=True)
class _ReasonBar:
    name: str
    share: float
    colour: str
    left: float  # percent of the track
    width: float


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


def _calibration_chart(rows: Sequence[CalibrationRow]) -> Markup | None:
    return Markup(calibration_svg([(c.predicted, c.observed, c.pairs) for c in rows], "calibration")) if rows else None


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


def _differences(rows: Sequence[ComparisonRow]) -> list[_DifferenceBar]:
    """Place every difference with its interval on the track of its metric, on which zero has one place."""
    bars = []
    for row in rows:
        ends = [_finite(v) for r in rows if r.metric == row.metric for v in (r.low, r.high, r.difference)]
        below, above = min([0.0, *ends]), max([0.0, *ends])
        span = 1.1 * (above - below) or 1.0
        start = below - 0.05 * (above - below)
        zero, low, high, point = (_percent(_finite(v) - start, span) for v in (0.0, row.low, row.high, row.difference))
        largest = max(_finite(value) for r in rows if r.metric == row.metric for value in (r.ours, r.theirs))
        ours, theirs = _percent(row.ours, largest), _percent(row.theirs, largest)
        bars.append(_DifferenceBar(row, zero, low, high, point, ours, theirs))
    return bars


def _headline_at(headline: Sequence[HeadlineMetric]) -> str:
    """Return what the summary's metrics end in, such as "@20"; empty where they have no K."""
    return next((f"@{h.name.partition('@')[2]}" for h in headline if "@" in h.name), "")


def _slice_families(rows: Sequence[SliceRow], headline_at: str) -> list[_SliceFamily]:
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
        brief = [place for place, metric in enumerate(metrics) if metric.endswith(headline_at) or "@" not in metric]
        families.append(_SliceFamily(name, metrics, brief or list(range(len(metrics))), table))
    return families


def _cards(cards: Sequence[UserCard], thumbnail: Callable[[bytes | None], str | None]) -> list[dict[str, object]]:
    shares = [_finite(r.share) for card in cards for item in card.recommended for r in item.reasons]
    below, above = max([0.0, *(-s for s in shares)]), max([0.0, *shares])
    span = below + above
    names = dict.fromkeys(r.name for card in cards for item in card.recommended for r in item.reasons)
    colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}

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
