"""The page of nights: one HTML file of what the last runs did and what is served; it needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from crossweave.evaluation.colours import PALETTE
from crossweave.evaluation.night_facts import Figure, Night, ServedRow
from crossweave.evaluation.pages import page_environment, tone_of
from crossweave.evaluation.small_curves import HEIGHT, WIDTH, Curve, columns, curve

OPEN, TURNS = 30, 60
"""Nights that are not folded away, and changes of what is served that are shown."""


def render_nights(nights: Sequence[Night], served: Sequence[ServedRow]) -> str:
    """Draw the page of nights, both the newest first. Every text is escaped; the same nights give the same page."""
    names = dict.fromkeys(stage.name for night in reversed(nights) for stage in night.stages)
    colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}
    worked = [night for night in reversed(nights) if night.seconds]
    views = [_night(night, colours) for night in nights]
    longest = max((night.seconds for night in nights), default=0.0)
    return (
        page_environment()
        .get_template("nights.html.j2")
        .render(
            size=(WIDTH, HEIGHT),
            now=next((row for row in served if row.kind == "now"), None),
            turns=served[:TURNS],
            more_turns=len(served) - len(served[:TURNS]),
            links={row.run_id: _link(row.run_id) for row in served},
            open=views[:OPEN],
            folded=views[OPEN:],
            curves=_curves(nights),
            colours=colours,
            span=_span(worked),
            longest=longest or 1.0,
            costs=_costs(worked, colours),
            quarantined=columns([[night.quarantined] for night in worked]) if _any_quarantined(worked) else [],
            most_quarantined=max((night.quarantined for night in worked), default=0),
        )
    )


@dataclass(frozen=True)
class _NightView:
    night: Night
    status: str
    tone: str
    link: str  # of its folder, relative to the page
    costs: list[tuple[str, str, float]]  # stage, colour, percent of its time


@dataclass(frozen=True)
class _CurveView:
    name: str
    drift: bool
    drawn: Curve
    last: Figure
    low: float
    high: float
    span: str  # from when to when


def _night(night: Night, colours: dict[str, str]) -> _NightView:
    status = "refused by the gate" if night.refused else "nothing to do" if night.status == "noop" else night.status
    whole = night.seconds or 1.0
    costs = [(s.name, colours[s.name], round(100 * s.seconds / whole, 2)) for s in night.stages if s.seconds]
    tone = tone_of("failed" if night.exit_code not in (0, None) else night.status)
    return _NightView(night, status, tone, _link(night.run_id), costs)


def _link(run_id: str) -> str:
    return quote(run_id, safe="")


def _curves(nights: Sequence[Night]) -> list[_CurveView]:
    """One curve a figure, then one a drift, over the nights that have it, the oldest on the left."""
    found: dict[tuple[bool, str], list[tuple[Figure, Night]]] = {}
    for night in reversed(nights):
        moved = [(True, Figure(name.replace("_", " "), value)) for name, value in night.drift.items()]
        for drift, figure in [(False, figure) for figure in night.figures] + moved:
            found.setdefault((drift, figure.name), []).append((figure, night))
    return [
        _CurveView(
            name,
            drift,
            curve([(figure.value, figure.low, figure.high) for figure, _ in points]),
            points[-1][0],
            min(figure.value for figure, _ in points),
            max(figure.value for figure, _ in points),
            _span([night for _, night in points]),
        )
        for (drift, name), points in sorted(found.items(), key=lambda one: one[0][0])
    ]


def _costs(worked: Sequence[Night], colours: dict[str, str]) -> list[list[tuple[str, tuple[float, ...]]]]:
    """Return the columns of the stages' seconds, each part with its colour."""
    drawn = columns([[stage.seconds for stage in night.stages] for night in worked])
    return [
        [(colours[stage.name], part) for stage, part in zip(night.stages, parts, strict=True)]
        for night, parts in zip(worked, drawn, strict=True)
    ]


def _any_quarantined(nights: Sequence[Night]) -> bool:
    return any(night.quarantined for night in nights)


def _span(nights: Sequence[Night]) -> str:
    dates = [night.date for night in nights]
    return "" if not dates else dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
