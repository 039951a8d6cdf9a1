"""One version of a table, as those who read it see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.storage.location import AT_ONCE, Location
from crossweave.tables.schema import table_schema


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a table: path relative to the table's folder, bytes, rows."""

    path: str
    size: int
    rows: int


@dataclass(frozen=True)
class Snapshot:
    """One version of a table: its files, row count, and the properties that the table was created with."""

    name: str
    version: int
    folder: Location
    files: tuple[DataFile, ...]
    properties: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Rows of the snapshot."""
        return sum(file.rows for file in self.files)

    @property
    def places(self) -> list[Location]:
        """Where the data files lie, sorted."""
        return [self.folder / file.path for file in self.files]

    def rows_where(self, where: Any, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows that a pyarrow expression picks, read in this process."""

        store = self.folder.store  # one for all threads

        def read(place: Location) -> pa.Table:
            with store.open(place.path) as stream:
                return pq.read_table(stream, columns=columns, filters=where)

        schema = table_schema(self.name)
        nothing = schema.empty_table() if columns is None else schema.empty_table().select(columns)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            parts = list(pool.map(read, self.places))
        return pa.concat_tables([_with_columns(part, nothing.schema) for part in parts]) if parts else nothing


def _with_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give rows of a file from before a column was added that column, empty."""
    columns = [rows[f.name] if f.name in rows.column_names else pa.nulls(len(rows), f.type) for f in schema]
    return pa.table(columns, names=schema.names).cast(schema)
