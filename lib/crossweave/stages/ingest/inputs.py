"""The input tables of a night, their footers checked, and what decides each table that is made of them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossweave.config import Settings
from crossweave.runtime.stage import StageContext
from crossweave.storage.records import digest
from crossweave.tables.contract import ANY, FLAG, ID, KIND_COLUMNS, NUMBER, TEXT, TIME, ColumnType, wanted_columns
from crossweave.tables.footers import InputTable
from crossweave.tables.item_rows import ItemColumns
from crossweave.tables.source import Source, check_source
from crossweave.tables.times import latest_event

CODE_VERSION = 5  # of the tables' meaning; a change makes the next night ingest everything anew


@dataclass(frozen=True)
class Inputs:
    """The input tables that passed their checks."""

    items: Source
    interactions: Source
    users: Source | None
    blocks: Source | None

    @property
    def tables(self) -> list[InputTable]:
        """All of them."""
        return [s.table for s in (self.items, self.interactions, self.users, self.blocks) if s is not None]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def warnings(self) -> list[str]:
        """What lies beside the tables' files and was not read."""
        return [
            f"{len(table.passed_over):,} files in {table.root} are no Parquet and were passed over: "
            + ", ".join(table.passed_over[:5])
            for table in self.tables
            if table.passed_over
        ]


def check_inputs(context: StageContext) -> Inputs:
    """Read every footer of the input tables; raises InputContractError naming file and column."""
    settings = context.settings
    items, interactions, users = settings.inputs.items, settings.inputs.interactions, settings.inputs.users
    blocks = settings.inputs.blocks
    of_items = [(items.id, ID), (items.title, ANY), (items.cold_column, FLAG), (items.updated_at, TIME)]
    of_items += [(column, ANY) for column in items.attributes]
    for modality in settings.modalities.values():
        of_items += [(column, KIND_COLUMNS[modality.kind]) for column in modality.columns]
    event_columns = [(interactions.user, ID), (interactions.item, ID), (interactions.weight, NUMBER)]
    event_columns += [(interactions.time, TIME)]
    event_columns += [(settings.split.column, TEXT)] if settings.split.method == "column" else []
    block_columns = [(blocks.user, ID), (blocks.item, ID)]
    user_columns = [(users.id, ID), *((column, ANY) for column in users.attributes)]

    def checked(name: str, given: Any, columns: Sequence[tuple[str | None, ColumnType]]) -> Source:
        return check_source(lambda: context.spark, name, given.path, wanted_columns(columns), given.derived)

    return Inputs(
        checked("items", items, of_items),
        checked("interactions", interactions, event_columns),
        checked("users", users, user_columns) if users.path else None,
        checked("blocks", blocks, block_columns) if blocks.path else None,
    )


def item_columns(settings: Settings) -> ItemColumns:
    """Return the columns of the items table that ingest reads."""
    items = settings.inputs.items
    modalities = {name: (m.kind, tuple(m.columns)) for name, m in settings.modalities.items()}
    return ItemColumns(
        items.id, items.title, items.cold_column, items.attributes, items.updated_at, modalities, items.time_unit
    )


def prints(settings: Settings, inputs: Inputs, date: datetime.date) -> dict[str, str]:
    """Return what decides each table: `scan` the meaning of an item row, the others their files and settings.

    The date's year decides which times lie too far ahead.
    """
    year = latest_event(date).year
    given, modalities = settings.inputs, {n: [m.kind, m.columns] for n, m in settings.modalities.items()}
    items = inputs.items.table
    split = settings.split.model_dump(mode="json", exclude={"protocol", "cold_items"})
    cold = digest([settings.split.cold_items, settings.seed]) if settings.split.cold_items else None
    blocks = [inputs.blocks.table.fingerprint, given.blocks.model_dump(mode="json")] if inputs.blocks else None
    return (
        {
            "code": str(CODE_VERSION),
            "scan": digest([str(items.root), given.items.model_dump(mode="json"), modalities, items.types]),
            "items": items.fingerprint,
            "interactions": digest(
                [
                    inputs.interactions.table.fingerprint,
                    given.interactions.model_dump(mode="json"),
                    split,
                    settings.seed,
                    year,
                ]
            ),
            "users": digest(
                [inputs.users.table.fingerprint if inputs.users else None, given.users.model_dump(mode="json")]
            ),
        }
        | ({"blocks": digest(blocks)} if blocks else {})
        | ({"cold": cold} if cold else {})
    )
