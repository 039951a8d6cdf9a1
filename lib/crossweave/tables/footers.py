"""Checks of input files before any work: every Parquet footer is read, every wanted column compared with its type.

Spark itself would skip a 0-byte file, turn a missing column into NULLs and die deep in a stage of a wrong type. Columns
that nobody asks for may be anything.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from crossweave.errors import InputContractError
from crossweave.storage.location import Location
from crossweave.storage.records import digest
from crossweave.tables.advice import advice
from crossweave.tables.contract import ColumnType
from crossweave.tables.input_files import THREADS, find_files
from crossweave.tables.leaf_types import Stored
from crossweave.tables.stored import FileColumn, FileColumns, read_footer
from crossweave.tables.widening import filled, widest

RESERVED = "_tmp_metadata_row_index"
"""What Spark calls the row numbers while it reads them."""
FOLDER = Stored("string (in the folder's name)", pa.string(), None)


@dataclass(frozen=True)
class Part:
    """Files of a table that hold the wanted columns in the same way."""

    files: frozenset[str]  # relative to the table's root
    columns: Mapping[str, FileColumn | None]  # name -> how; None: no value at all, or the folder's name has it


@dataclass(frozen=True)
class InputTable:
    """An input table that passed its footer checks."""

    name: str
    root: Location  # the folder that `stamps` are relative to
    files: tuple[Location, ...]
    rows: int
    stamps: Mapping[str, str]  # file -> its size and time of modification or content: the same ones mean the same file
    sizes: Mapping[str, int]  # file -> its bytes
    names: tuple[str, ...]  # of all columns of the files, and of their folders
    kinds: Mapping[str, pa.DataType]  # wanted column -> the one type that it has over all files
    parts: tuple[Part, ...]
    folder_values: Mapping[str, Mapping[str, str | None]]  # file -> the wanted columns that its folders' names give
    passed_over: tuple[str, ...]  # what lies in the table's folder and is no file of it
    twins: bool  # whether columns, or fields of one, differ by nothing but case

    @property
    def fingerprint(self) -> str:
        """Of the files: where they lie, and their stamps."""
        return digest([str(self.root), dict(self.stamps)])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    @property
    def types(self) -> dict[str, str]:
        """What each wanted column is over all files: a value's text may follow from it."""
        return {name: str(kind) for name, kind in self.kinds.items()}

    def is_integer(self, column: str) -> bool:
        """Say whether a wanted column holds integers that a long can take."""
        return self.kinds[column] in (pa.int32(), pa.int64())


class Footers:
    """The footers of an input table, read once, to be asked for columns."""

    def __init__(self, name: str, path: str) -> None:
        """Read them; raises InputContractError naming the file, as `preflight` does."""
        self.name = name
        self.found = find_files(name, path)
        store, sizes = self.found.root.store, [entry.size for entry in self.found.entries.values()]
        with ThreadPoolExecutor(THREADS) as pool:
            footers = list(pool.map(lambda file, size: read_footer(name, file, store, size), self.found.files, sizes))
        self.rows = sum(footer.num_rows for footer in footers)
        self.columns = dict(zip(self.found.entries, map(FileColumns, footers), strict=True))
        self.folders = {file: self.found.folder_values(file) for file in self.found.entries}
        names = [(*self.columns[file].names, *self.folders[file]) for file in self.found.entries]
        self.names = tuple(dict.fromkeys(name for own in names for name in own))

    @property
    def twins(self) -> bool:
        """Say whether columns, or fields of one, differ by nothing but case."""
        alike = len({name.lower() for name in self.names}) < len(self.names)
        return alike or any(columns.twins for columns in self.columns.values())

    def readable(self) -> dict[str, pa.DataType]:
        """Return the columns that Spark can read, each with the type of the first file that has a value of it."""
        kinds: dict[str, pa.DataType] = {}
        for file, columns in self.columns.items():
            for name in (name for name in columns.names if pa.types.is_null(kinds.get(name, pa.null()))):
                found = columns.find(name)
                if found is not None and found.stored.read is not None:
                    kinds[name] = found.stored.kind
            kinds |= {name: pa.string() for name in self.folders[file] if name not in kinds}
        return kinds

    def table(self, wanted: Mapping[str, ColumnType]) -> InputTable:
        """Check the wanted columns of every file; raises InputContractError naming file and column."""
        self._refuse_twins(wanted)
        kinds = {name: self._kind(name, column) for name, column in wanted.items()}
        parts: dict[tuple[str, ...], tuple[list[str], dict[str, FileColumn | None]]] = {}
        for file in self.found.entries:
            columns = {name: self._held(file, name) for name in wanted}
            key = tuple("" if c is None else f"{c.path}: {c.stored.words}" for c in columns.values())
            parts.setdefault(key, ([], columns))[0].append(file)
        folder_values = {
            file: {name: values[name] for name in wanted if name in values and self.columns[file].find(name) is None}
            for file, values in self.folders.items()
        }
        return InputTable(
            self.name,
            self.found.root,
            self.found.files,
            self.rows,
            {file: entry.tag for file, entry in self.found.entries.items()},
            {file: entry.size for file, entry in self.found.entries.items()},
            self.names,
            kinds,
            tuple(Part(frozenset(files), columns) for files, columns in parts.values()),
            {file: values for file, values in folder_values.items() if values},
            self.found.passed_over,
            self.twins,
        )

    def _held(self, file: str, name: str) -> FileColumn | None:
        found = self.columns[file].find(name)
        return None if found is None or pa.types.is_null(found.stored.kind) else found

    def _kind(self, name: str, wanted: ColumnType) -> pa.DataType:
        """Return the one type of a column over all files."""
        first: tuple[Location, Stored] | None = None
        kind = pa.null()
        for file, below in zip(self.found.files, self.found.entries, strict=True):
            held = self._checked(file, below, name, wanted)
            wide = widest([kind, held.kind])
            if wide is None:
                assert first is not None
                where, (before, other) = f"{file} of the {self.name} table", first
                raise InputContractError(
                    f"{where}: column {name!r} is {held.words}, but {other.words} in {before}",
                    "write all files of the table with one type, such as a string for an id "
                    f"(pyarrow: table.set_column(i, {name!r}, table[{name!r}].cast(pyarrow.string())))",
                )
            kind, first = wide, first or (None if pa.types.is_null(held.kind) else (file, held))
        return filled(kind, wanted.default)

    def _checked(self, file: Location, below: str, name: str, wanted: ColumnType) -> Stored:
        """Return how a file holds a column, which Spark can read and the settings can use."""
        where = f"{file} of the {self.name} table"
        columns = self.columns[below]
        found = columns.find(name)
        if found is None:
            if name in self.folders[below]:
                return self._fitting(where, name, FOLDER, wanted)
            raise _lacking(where, self.name, name, columns.names)
        top, held = found.path[0], found.stored
        if columns.names.count(top) > 1 or top == RESERVED:
            why = "is a name that Spark keeps for itself" if top == RESERVED else "is there more than once"
            raise InputContractError(f"{where}: column {name!r} {why}", "rename it in the file")
        if held.read is None:
            raise InputContractError(
                f"{where}: column {name!r} is {held.words}, which Spark cannot read",
                "write it as another type (a string, a number, a timestamp), or name another column",
            )
        if pa.types.is_null(held.kind):
            return held
        self._fitting(where, name, held, wanted)
        strange = columns.unreadable_pages(found)
        if strange:
            raise InputContractError(
                f"{where}: column {name!r} {strange}, which Spark cannot read here; the file is whole",
                "write it with plain or dictionary encoding, compressed by snappy, zstd or gzip "
                "(pyarrow: write_table(…, compression='zstd', use_byte_stream_split=False))",
            )
        return held

    def _fitting(self, where: str, name: str, held: Stored, wanted: ColumnType) -> Stored:
        if not wanted.accepts(held.kind):
            raise InputContractError(
                f"{where}: column {name!r} should be {wanted.words}, is {held.words}",
                advice(self.name, name, wanted.default, held.kind),
            )
        return held

    def _refuse_twins(self, wanted: Iterable[str]) -> None:
        tops: dict[str, str] = {}
        for name in wanted:
            found = next((f for f in (c.find(name) for c in self.columns.values()) if f is not None), None)
            top = found.path[0] if found is not None else name
            twin = tops.setdefault(top.lower(), top)
            if twin != top:
                raise InputContractError(
                    f"{self.found.files[0]} of the {self.name} table: the settings name the columns {twin!r} "
                    f"and {top!r}, which differ only in case: Spark does not tell them apart",
                    "rename one of them in the files",
                )


def preflight(name: str, path: str, columns: Mapping[str, ColumnType]) -> InputTable:
    """Read every footer of an input table and check the named columns.

    Raises InputContractError naming the file and column: no such path, no Parquet file, an unreadable or 0-byte
    file, a missing column, a column of an unexpected type, of types that do not go together between files, or whose
    pages Spark cannot read.
    """
    return Footers(name, path).table(columns)


def _lacking(where: str, table: str, name: str, names: list[str]) -> InputContractError:
    near = difflib.get_close_matches(name.lower(), [own.lower() for own in names], 1)
    close = [own for own in names if own.lower() in near or own.strip() == name.strip()]
    meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return InputContractError(
        f"{where} lacks the column {name!r}; it has {', '.join(names)}",
        f"{meant}name the right column under inputs.{table} or modalities, or mend the file",
    )
