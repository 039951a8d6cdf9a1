"""The drawn charts of the report, as SVG text that stands inside the page.

matplotlib's Figure alone, no pyplot: no global figure list and no display. Text stays text (searchable, in the
page's font) and takes the page's ink; grounds are transparent and series have mid-tone colours, so that one picture
serves light and dark pages.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crossweave.evaluation.colours import BASELINE, OURS

_INK = "#010203"  # becomes currentColor: the page's ink
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crossweave",  # the same chart gives the same bytes
    "text.parse_math": False,  # a "$" in a name is a dollar
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": BASELINE,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": BASELINE,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.7,
}
_SIZE = (4.6, 2.7)  # inches


def curve_svg(points: Sequence[tuple[float, float]], colour: str, name: str) -> str:
    """Draw one training curve; `points` are (epoch, value), non-finite ones are left out. Returns inline SVG."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        marker = "o" if len(finite) <= 30 else ""
        axes.plot([x for x, _ in finite], [y for _, y in finite], color=colour, lw=2, marker=marker, ms=4)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.margins(x=0.03, y=0.12)
        return _inline_svg(figure, name)


def bars_svg(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    baselines: Sequence[float | None],
    name: str,
) -> str:
    """Draw bars with intervals, each beside its baseline's bar where there is one.

    The four sequences have one entry a group (a K of the metric). Returns inline SVG.
    """
    paired = any(b is not None for b in baselines)
    width = 0.36 if paired else 0.5
    shift = width / 2 + 0.02 if paired else 0.0
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        tops, bottoms = [], [0.0]
        for place, (value, interval, baseline) in enumerate(zip(values, intervals, baselines, strict=True)):
            axes.bar(place - shift, value, width, color=OURS)
            top = value
            if interval is not None:
                low, high = min(interval[0], value), max(interval[1], value)  # rounding may cross by one bit
                axes.errorbar(
                    place - shift, value, [[value - low], [high - value]], ecolor=_INK, elinewidth=1.3, capsize=4
                )
                top = high
                bottoms.append(low)
            _label(axes, value, place - shift, top)
            tops.append(top)
            bottoms.append(value)
            if baseline is not None:
                axes.bar(place + shift, baseline, width, color=BASELINE)
                _label(axes, baseline, place + shift, baseline)
                tops.append(baseline)
                bottoms.append(baseline)
        axes.set_xticks(range(len(labels)), labels)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(labels) - 0.4)
        top, bottom = max([*tops, 1e-9]), min(bottoms)
        axes.set_ylim(bottom - 0.05 * (top - bottom) if bottom < 0 else 0, top + 0.16 * (top - bottom))
        if bottom < 0:
            axes.axhline(0, color=BASELINE, lw=0.8)
        return _inline_svg(figure, name)


def calibration_svg(points: Sequence[tuple[float, float, int]], name: str) -> str:
    """Draw a reliability diagram; `points` are (mean probability, share that came true, pairs). Returns inline SVG."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=BASELINE, lw=1.2, ls="--")
        predicted, observed, pairs = zip(*points, strict=True)
        axes.plot(predicted, observed, color=OURS, lw=1.2)
        axes.scatter(predicted, observed, s=[10 + 70 * count / max(pairs) for count in pairs], color=OURS)
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("share taken")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        return _inline_svg(figure, name)


def _label(axes: Axes, value: float, x: float, y: float) -> None:
    """Write a value over its bar: three figures that tell, as two of four decimals would touch."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    axes.annotate(
        text.replace("-", "−"), (x, max(y, 0.0)), (0, 3), textcoords="offset points", ha="center", fontsize=10
    )


def _inline_svg(figure: Figure, name: str) -> str:
    """Strip what only a file needs, make ids unique on the page, and take the page's ink and width."""
    out = io.StringIO()
    figure.savefig(
        out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    tag, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', tag)
    prefix = re.sub(r"\W+", "-", name) + "-"
    rest = rest.replace(_INK, "currentColor").replace("xlink:href", "href")
    rest = re.sub(r'\bid="', f'id="{prefix}', rest)
    rest = re.sub(r'href="#', f'href="#{prefix}', rest)
    rest = re.sub(r"url\(#", f"url(#{prefix}", rest)
    rest = re.sub(r"font-family: [^;\"]*; ?", "", rest)
    rest = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    return f'<svg {box.group(0) if box else ""} class="chart" aria-hidden="true" focusable="false">{rest.strip()}'
