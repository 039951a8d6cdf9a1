"""Demo: makes the generated shop, unless it is there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from crossweave.config import Settings
from crossweave.demo import generate_shop
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.storage.location import Location
from crossweave.storage.records import digest, read_json, write_json

STAGE = "demo"


def demo_folder(settings: Settings) -> Location:
    """Return where a workspace's shop lies."""
    return Location.of(settings.workspace) / "demo"


def reads_demo(settings: Settings) -> bool:
    """Say whether the tables that a run cannot do without, items and interactions, are those of the generated shop."""
    given, folder = settings.inputs, demo_folder(settings)
    tables = {"items.parquet": given.items.path, "interactions.parquet": given.interactions.path}
    return all(Location.of(path) == folder / file for file, path in tables.items())


def make_demo(context: StageContext, record: StageRecord) -> None:
    """Write the shop below the workspace; a shop of the same size and seed is left as it is."""
    settings = context.settings
    folder = demo_folder(settings)
    wanted = {**settings.demo.model_dump(), "seed": settings.seed}
    stamp = context.workspace / "receipts" / "demo.json"
    made = read_json(stamp) if stamp.is_file() else None
    if made is not None and made["fingerprint"] == digest(wanted) and (folder / "items.parquet").is_file():
        record.nothing_to_do(made["rows"], {}, f"the shop is there: {folder}")
        return
    progress = context.progress("demo", settings.demo.items, "items")
    with tempfile.TemporaryDirectory(prefix="crossweave-") as draft:
        summary = generate_shop(
            Path(draft),
            items=settings.demo.items,
            users=settings.demo.users,
            interactions=settings.demo.interactions,
            seed=settings.seed,
            progress=lambda done, total: progress.update(done),
        )
        folder.upload_folder(Path(draft))
    progress.close(summary.items_rows)
    rows = summary.items_rows + summary.users_rows + summary.interactions_rows
    write_json(stamp, {"fingerprint": digest(wanted), "rows": rows})
    record.ledgers = {"rows": Ledger(rows_in=rows, rows_out=rows)}
    record.metrics = {"broken": summary.broken}
    record.note = f"{folder}, with {summary.broken} things broken on purpose (broken.json names them)"
