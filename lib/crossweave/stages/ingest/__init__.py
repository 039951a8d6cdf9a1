"""Ingest: checks the input tables, hashes every content, parts the interactions, commits the catalog.

A table whose files and settings are those of the last complete run keeps its version; of the items table only the
files that changed are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossweave.runtime.record import PlanLine, StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.stages.ingest.books import STAGE
from crossweave.stages.ingest.inputs import Inputs, check_inputs, item_columns, prints
from crossweave.stages.ingest.night import Night
from crossweave.tables.item_rows import count_changed
from crossweave.tables.receipt_details import Ingested
from crossweave.tables.receipts import Receipt


@dataclass(frozen=True)
class IngestBasis(Basis):
    """The input tables, checked."""

    inputs: Inputs


class Ingest(Stage[IngestBasis]):
    """Brings the input tables into the workspace.

    Writes item_rows and catalog, users, interactions and blocks where they may differ (each as a whole), and appends to
    quarantine. Raises InputContractError for a damaged file or a missing or retyped column.
    """

    name = STAGE
    current = "the input files are those of the last run"

    def basis(self, context: StageContext) -> IngestBasis:
        """Check the footers of the input tables."""
        inputs = check_inputs(context)
        return IngestBasis({}, prints(context.settings, inputs, context.date), inputs)

    def nothing_to_do(
        self, context: StageContext, basis: IngestBasis, receipt: Receipt[Ingested], record: StageRecord
    ) -> None:
        """Name the tables that stay."""
        record.nothing_to_do(receipt.rows, receipt.writes, self.current)
        record.warnings = basis.inputs.warnings

    def settle(
        self, context: StageContext, basis: IngestBasis, receipt: Receipt[Ingested], record: StageRecord
    ) -> None:
        """Tell how the interactions are parted."""
        record.facts = {"split": receipt.details.split | {"protocol": context.settings.split.protocol}}

    def run(
        self, context: StageContext, basis: IngestBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Ingested]:
        """Write every table that may differ."""
        inputs = basis.inputs
        record.warnings += inputs.warnings
        night = Night(context, inputs, last, basis.facts, record)
        try:
            night.run(f"{STAGE}:{basis.fingerprint}:{last.run_id if last else ''}")
        finally:
            night.staging.remove()
        record.writes, record.metrics = night.writes, night.metrics
        record.note = f"{night.metrics['item_files_read']:,} of {len(inputs.items.table.files):,} item files read"
        return basis.receipt(context, record, night.details())


INGEST = Ingest()


def plan_ingest(context: StageContext) -> tuple[PlanLine, dict[str, int] | None]:
    """Say what ingest would read, and how many contents of each modality it would find new or changed.

    Reads footers, and hashes the payloads of changed files; writes nothing.
    """
    basis, previous = INGEST.basis(context), context.receipts.latest(STAGE)
    inputs = basis.inputs
    if INGEST.made(context, basis, previous) is not None:
        return PlanLine(STAGE, False, INGEST.current), None
    night = Night(context, inputs, previous, basis.facts, StageRecord(STAGE))
    counts = count_changed(context.spark, inputs.items, item_columns(context.settings), night.last, night.unchanged)
    changed = {name: counts.get(name, 0) for name in context.settings.modalities}
    files = sum(len(table.files) for table in inputs.tables)
    size = sum(table.size for table in inputs.tables)
    return PlanLine(STAGE, True, f"{inputs.rows:,} rows in {files:,} files ({size / 1e6:,.1f} MB)"), changed
