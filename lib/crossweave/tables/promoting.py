"""The two ways in which what is served changes: a run is promoted, or a command rolls back to one that was.

Each writes `receipts/served.json` anew, whole: a process that is killed leaves what was served before or after, and who
holds the workspace no longer is refused by the record's fence.
"""

from __future__ import annotations

import datetime
from dataclasses import asdict, replace

from crossweave.errors import SettingsError
from crossweave.storage.records import Place, write_record
from crossweave.tables.served import SCHEMA, Chain, Generation, Promotion, Served, Turn, load_served, served_path

ROLLBACK = "rollback by command"
GENERATIONS, TURNS, RUNS = 30, 400, 100
"""How many are known: of results, of changes, and of the runs of one result."""


def serve(workspace: Place, chain: Chain, date: str, run_id: str, promotion: Promotion | None = None) -> None:
    """Make a chain the served one, atomically."""
    served = load_served(workspace)
    if served is not None and served.chain.score == chain.score:
        return
    promotion = promotion or Promotion()
    known = served.generations if served is not None else []
    same = next((one for one in known if one.chain.origin == chain.origin), None)
    runs = [*(same.runs if same is not None else []), run_id][-RUNS:]
    slim = _slim(chain)
    if served is not None and same is known[served.now]:  # nothing was new: the one before it stays the one before it
        new = Generation(runs, date, slim, same.before, promotion)
        known = [new if one is same else one for one in known]
    else:
        new = Generation(runs, date, slim, served.run_id if served is not None else "", promotion)
        known = [*(one for one in known if one is not same), new]
    turns = served.turns if served is not None else []
    _write(
        workspace,
        Served(date, run_id, slim, served.chain if served is not None else None, known, turns),
        _turn(new, by=run_id, why=promotion.why),
    )


def target_of(served: Served, to: str | None) -> Generation:
    """Return what a rollback is to serve: that of a run, or without one what was served before the last promotion.

    Where a rollback took the last promotion back already, it is what is served. Raises SettingsError for a run that was
    never served, or where there is nothing to go back to.
    """
    known, wanted = served.generations, to
    if wanted is None:
        if served.now != len(known) - 1:
            return known[served.now]
        wanted = known[-1].before
        if not wanted:
            raise SettingsError(f"run {served.run_id} is the first that was served: there is none before it")
    found = next((one for one in known if wanted in one.runs), None)
    if found is not None:
        return found
    others = ", ".join(one.runs[-1] for one in reversed(known) if served.run_id not in one.runs) or "none"
    if any(turn.run_id == wanted for turn in served.turns) or to is None:
        raise SettingsError(f"run {wanted} was served too long ago to be rolled back to", f"there are: {others}")
    raise SettingsError(f"run {wanted} was never served", f"those that were, beside the one that is: {others}")


def roll_back(workspace: Place, served: Served, target: Generation, run_id: str) -> None:
    """Serve a generation again, atomically; those that were promoted after it are withdrawn by that."""
    before = next((one.chain for one in served.generations if target.before in one.runs), None)
    now = Served(target.date, target.runs[-1], target.chain, before, served.generations, served.turns)
    _write(workspace, now, _turn(target, by=run_id, why=ROLLBACK))


def with_unjudged(served: Served, chain: Chain, date: str) -> Served:
    """Return what is served where that is lists which nobody judged: they are a generation too, the newest."""
    if chain.origin == served.chain.origin:
        return served
    same = [one for one in served.generations if one.chain.origin == chain.origin]
    runs = [run for one in same for run in one.runs] + [chain.score.run_id]
    new = Generation(runs, date, _slim(chain), served.run_id, Promotion("scored, not evaluated"))
    known = [*(one for one in served.generations if one not in same), new]
    return Served(date, runs[-1], new.chain, served.chain, known, served.turns)


def _slim(chain: Chain) -> Chain:
    """Leave out the list of input files, which only the next ingest reads, and from its own receipt."""
    return replace(chain, ingest=replace(chain.ingest, details=replace(chain.ingest.details, files={})))


def _turn(served: Generation, by: str, why: str) -> Turn:
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    version = served.chain.score.writes.get("recommendations")
    figure = served.promotion.figure
    return Turn(when, by, why, served.runs[-1], served.date, served.chain.model, version, figure)


def _write(workspace: Place, served: Served, turn: Turn) -> None:
    kept = served.kept(GENERATIONS - 1)
    whole = replace(
        served,
        generations=[one for one in served.generations if any(one is other for other in kept)],
        turns=[*served.turns, turn][-TURNS:],
    )
    write_record(served_path(workspace), SCHEMA, asdict(whole))
