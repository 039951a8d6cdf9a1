"""The nights of a workspace, read from their records, and the page that shows them: `runs/index.html`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.evaluation.night_facts import Figure, Night, ServedRow, figure_of, night_of
from crossweave.storage.location import AT_ONCE, Location
from crossweave.tables.served import Chain, Generation, Turn, load_served, served_chain

log = logging.getLogger(__name__)
MOST = 400
"""Nights that are looked at."""
PAGE = "index.html"


def nights(workspace: Location) -> list[Night]:
    """Return what the last runs did by their records, the newest first."""
    runs = workspace / "runs"
    names = [place.name for place in reversed(runs.children()) if place.name.startswith("2")][:MOST]
    store = runs.store  # one for all threads: fsspec makes a client anew a thread

    def read(name: str) -> Night | None:
        try:
            return night_of(name, store.read((runs / name / "run_result.json").path))
        except FileNotFoundError:
            return None

    if runs.is_local:
        found = [read(name) for name in names]
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(read, names))
    return [night for night in found if night is not None]


def served_rows(workspace: Location, gated: bool, shown: Sequence[Night]) -> list[ServedRow]:
    """Return what was served when, the newest first, with the nights that the gate refused.

    One of them is served now, unless nothing is. `gated`: whether evaluate.gate is set.
    """
    served, now = load_served(workspace), _served_now(workspace, gated)
    turns = (served.turns or [_unwritten(known) for known in served.generations]) if served is not None else []
    last = served is not None and now is not None and now.score == served.chain.score
    rows = [_row(turn, "now" if last and turn is turns[-1] else "before") for turn in turns]
    rows += [
        ServedRow(night.started, night.run_id, night.date, night.message, "refused", figure=_first(night.figures))
        for night in shown
        if night.refused
    ]
    rows.sort(key=lambda row: row.when)
    rows.reverse()
    if now is not None and not last:
        version = now.score.writes.get("recommendations")
        rows.insert(
            0, ServedRow("", now.score.run_id, now.day, "scored, not evaluated", "now", version, model=now.model)
        )
    return rows


def served_of(settings: Settings) -> list[ServedRow]:
    """Return what was served when in the workspace of these settings."""
    workspace = Location.of(settings.workspace)
    return served_rows(workspace, settings.evaluate.gate is not None, nights(workspace))


def write_page(workspace: Location, gated: bool) -> None:
    """Make the page anew; one that cannot be made is a warning in the log, and nothing else."""
    try:
        from crossweave.evaluation.nights_page import render_nights  # and with it the template engine: 0.1 s

        shown = nights(workspace)
        (workspace / "runs" / PAGE).put(render_nights(shown, served_rows(workspace, gated, shown)))
    except Exception as error:
        log.warning("the page of nights was not written: %s: %s", type(error).__name__, error)


def _served_now(workspace: Location, gated: bool) -> Chain | None:
    try:
        return served_chain(workspace, gated=gated)
    except SettingsError:  # nothing is
        return None


def _row(turn: Turn, kind: str) -> ServedRow:
    when = turn.when[:19].replace("T", " ")
    why = turn.why if turn.by == turn.run_id else f"{turn.why}, {turn.by}"
    figure = figure_of(turn.figure)
    return ServedRow(when, turn.run_id, turn.date, why, kind, turn.recommendations, turn.model, figure)


def _unwritten(known: Generation) -> Turn:
    run, version = known.runs[-1], known.chain.score.writes.get("recommendations")
    return Turn("", run, "not written down then", run, known.date, known.chain.model, version, {})


def _first(figures: Sequence[Figure]) -> Figure | None:
    return figures[0] if figures else None
