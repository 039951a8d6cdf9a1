"""Collect: removes what no stage, no recent run and no late reader can need any more."""

from __future__ import annotations

import datetime
from collections import defaultdict
from typing import Any

from crossweave.artifacts.learned import LEARNED
from crossweave.runtime.record import StageRecord
from crossweave.runtime.result import recent_results
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.storage.litter import remove_empty_folders
from crossweave.storage.location import Location
from crossweave.tables.garbage import (
    FEATURES,
    Garbage,
    folder_garbage,
    last_change,
    table_garbage,
    table_names,
)
from crossweave.tables.receipt_details import Pretrained
from crossweave.tables.receipts import Receipt
from crossweave.tables.served import load_served


class Collect(Stage[Basis]):
    """Removes old table versions' data, attempts that never committed, unused feature tables and models.

    Never touched: what a receipt or a run of the last `gc.keep_days` names, what is served and the `gc.keep_served`
    results before it, the newest `gc.keep_versions` of every table, every version that was the newest in those days,
    and anything younger than they are. Everything is found before anything is removed; a damaged table raises
    TableError and nothing is removed.
    """

    name = "gc"
    keeps_receipt = False

    def basis(self, context: StageContext) -> Basis:
        """Work from whatever is there."""
        return Basis({}, {})

    def run(self, context: StageContext, basis: Basis, last: Receipt[Any] | None, record: StageRecord) -> Receipt[None]:
        """Find it all, then remove it."""
        _collect(context, record)
        return basis.receipt(context, record, None)


COLLECT = Collect()


def _collect(context: StageContext, record: StageRecord) -> None:
    settings = context.settings.gc
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=settings.keep_days)
    store, workspace = context.tables, context.workspace
    used, folders = _in_use(context, before)
    spare, to_roll_back_to = _to_roll_back_to(context)
    folders |= to_roll_back_to
    names = table_names(store)
    wanted = used.keys() | spare.keys()
    unused = [n for n in names if n.startswith(FEATURES) and n not in wanted and last_change(store, n) < before]
    files = [
        garbage
        for name in names
        if name not in unused
        for garbage in table_garbage(
            store, name, used.get(name, ()), settings.keep_versions, before, spare.get(name, set())
        )
    ]
    tables = [folder_garbage(store.folder(name)) for name in unused]
    models = [
        old for room in ("models", "learned", "training") for old in _old_folders(workspace / room, folders, before)
    ]
    scored = _old_folders(workspace / "scored", folders, before)
    if not settings.dry_run:
        for garbage in (*files, *tables, *models, *scored):
            garbage.place.remove()
        for name in names:
            remove_empty_folders(store.folder(name) / "data")
    size = sum(garbage.size for garbage in (*files, *tables, *models, *scored))
    record.metrics = {"files": len(files), "feature_tables": len(tables), "models": len(models), "bytes": size}
    record.metrics |= {"scored": len(scored)}
    record.noop = not (files or tables or models or scored)
    verb = "would remove" if settings.dry_run else "removed"
    record.note = (
        f"{verb} {len(files):,} data files, {len(tables):,} feature tables, {len(models):,} models"
        f" and {len(scored):,} sets of scored vectors ({size / 1e6:,.1f} MB)"
    )


def _in_use(context: StageContext, since: datetime.datetime) -> tuple[dict[str, set[int]], set[str]]:
    """Return the table versions that later stages, recent runs or what is served read, and the folders in use."""
    receipts = context.receipts.all()
    used: dict[str, set[int]] = defaultdict(set)
    named = [receipt.writes for receipt in receipts]
    for result in recent_results(context.workspace, since):
        named += [versions for stage in result["stages"] for versions in (stage["reads"], stage["writes"])]
    made = {receipt.stage: receipt for receipt in receipts}
    chains = [[made.get("train"), made.get("score")]]
    served = load_served(context.workspace)
    if served is not None:
        chains.append([served.chain.train, served.chain.score])
        named += [versions for receipt in served.chain for versions in (receipt.reads, receipt.writes)]
    for versions in named:
        for name, version in versions.items():
            used[name].add(version)
    learned = made["pretrain"].details if "pretrain" in made else Pretrained()
    folders = {LEARNED.place(context.workspace, fingerprint).name for fingerprint in learned.artifacts}
    folders |= {trained.details.folder for trained, _ in chains if trained is not None}
    return used, folders | {scored.details.scored for _, scored in chains if scored is not None}


def _to_roll_back_to(context: StageContext) -> tuple[dict[str, set[int]], set[str]]:
    """Return the table versions and the folders of what is served, and of the results to roll back to."""
    served = load_served(context.workspace)
    spare: dict[str, set[int]] = defaultdict(set)
    folders: set[str] = set()
    for known in served.kept(context.settings.gc.keep_served) if served is not None else ():
        chain = known.chain
        folders |= {chain.model, chain.score.details.scored}
        folders |= {LEARNED.place(context.workspace, learned).name for learned in known.promotion.learned.values()}
        for versions in (versions for receipt in chain for versions in (receipt.reads, receipt.writes)):
            for name, version in versions.items():
                spare[name].add(version)
    return spare, folders


def _old_folders(room: Location, used: set[str], before: datetime.datetime) -> list[Garbage]:
    """Return the folders that are not in use and in which nothing was written since `before`."""
    unused = [folder for folder in room.children() if folder.name not in used]
    return [folder_garbage(folder) for folder in unused if all(entry.modified < before for _, entry in folder.walk())]
