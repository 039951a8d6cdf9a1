"""Demo: makes the generated shop, unless it is there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from crossweave.config import Settings
from crossweave.demo import generate_shop
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.storage.location import Location
from crossweave.tables.receipts import Receipt


def demo_folder(settings: Settings) -> Location:
    """Return where a workspace's shop lies."""
    return Location.of(settings.workspace) / "demo"


def reads_demo(settings: Settings) -> bool:
    """Say whether the tables that a run cannot do without, items and interactions, are those of the generated shop."""
    given, folder = settings.inputs, demo_folder(settings)
    tables = {"items.parquet": given.items.path, "interactions.parquet": given.interactions.path}
    return all(Location.of(path) == folder / file for file, path in tables.items())


class Demo(Stage[Basis]):
    """Writes the shop below the workspace; a shop of the same size and seed is left as it is."""

    name = "demo"

    def basis(self, context: StageContext) -> Basis:
        """Nothing but the shop's size and seed decides it."""
        return Basis({}, {**context.settings.demo.model_dump(), "seed": context.settings.seed})

    def made(self, context: StageContext, basis: Basis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Find the shop where it was made and has not been removed."""
        there = (demo_folder(context.settings) / "items.parquet").is_file()
        return super().made(context, basis, last) if there else None

    def nothing_to_do(self, context: StageContext, basis: Basis, receipt: Receipt[None], record: StageRecord) -> None:
        """Say where it lies."""
        record.nothing_to_do(receipt.rows, {}, f"the shop is there: {demo_folder(context.settings)}")

    def run(self, context: StageContext, basis: Basis, last: Receipt[Any] | None, record: StageRecord) -> Receipt[None]:
        """Draw the shop on this machine, then put it where the workspace lies."""
        demo, folder = context.settings.demo, demo_folder(context.settings)
        progress = context.progress("demo", demo.items, "items")
        with tempfile.TemporaryDirectory(prefix="crossweave-") as draft:
            summary = generate_shop(
                Path(draft),
                items=demo.items,
                users=demo.users,
                interactions=demo.interactions,
                seed=context.settings.seed,
                progress=lambda done, total: progress.update(done),
            )
            folder.upload_folder(Path(draft))
        progress.close(summary.items_rows)
        rows = summary.items_rows + summary.users_rows + summary.interactions_rows
        record.ledgers = {"rows": Ledger(rows_in=rows, rows_out=rows)}
        record.metrics = {"broken": summary.broken}
        record.note = f"{folder}, with {summary.broken} things broken on purpose (broken.json names them)"
        return basis.receipt(context, record, None)


DEMO = Demo()
