"""Checks of input files before any work: every Parquet footer is read, every column's presence and type compared.

Spark itself would skip a 0-byte file, turn a missing column into NULLs and die deep in a stage of a wrong type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.errors import InputContractError
from crossweave.tables.files import digest


@dataclass(frozen=True)
class ColumnType:
    """A family of Arrow types that a column may have."""

    words: str
    accepts: Callable[[pa.DataType], bool]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list_of(inner: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and inner(kind.value_type)


ID = ColumnType("an integer or a string", lambda t: pa.types.is_integer(t) or _is_text(t))
TEXT = ColumnType("a string", _is_text)
BYTES = ColumnType("binary", lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t))
TAGS = ColumnType("a list of strings", _is_list_of(_is_text))
VECTOR = ColumnType("a list of float or double", _is_list_of(pa.types.is_floating))
SCALAR = ColumnType(
    "a number, string, boolean, date or timestamp", lambda t: not (pa.types.is_nested(t) or BYTES.accepts(t))
)
NUMBER = ColumnType("a number", lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t))
TIME = ColumnType(
    "a timestamp, a date, a number since 1970 or an ISO text",
    lambda t: NUMBER.accepts(t) or pa.types.is_timestamp(t) or pa.types.is_date(t) or _is_text(t),
)
FLAG = ColumnType("a boolean", pa.types.is_boolean)
ANY = ColumnType("any type", lambda t: True)

KIND_COLUMNS = {
    "text": TEXT,
    "image": BYTES,
    "audio": BYTES,
    "video": BYTES,
    "tags": TAGS,
    "attributes": SCALAR,
    "vector": VECTOR,
    "vector_id": ID,
}
"""What a modality's columns must be, by its kind."""


@dataclass(frozen=True)
class InputTable:
    """An input table that passed its footer checks."""

    name: str
    root: Path  # the folder that `stamps` are relative to
    files: tuple[Path, ...]
    rows: int
    schema: pa.Schema
    stamps: Mapping[str, str]  # file -> its size and time of modification: the same ones mean the same file

    @property
    def fingerprint(self) -> str:
        """Of the files: where they lie, and their stamps."""
        return digest([str(self.root), dict(self.stamps)])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)

    def is_integer(self, column: str) -> bool:
        """Say whether a column holds integers."""
        return bool(pa.types.is_integer(self.schema.field(column).type))


def preflight(name: str, path: str, columns: Mapping[str, ColumnType]) -> InputTable:
    """Read every footer of an input table and check the named columns.

    Raises InputContractError naming the file and column: no such path, no Parquet file, an unreadable or 0-byte
    file, a missing column, a column of an unexpected type or of a type that differs between files.
    """
    files = _list_files(name, Path(path))
    with ThreadPoolExecutor(max_workers=16) as pool:
        footers = list(pool.map(lambda file: _footer(name, file), files))
    first = footers[0].schema.to_arrow_schema()
    for file, footer in zip(files, footers, strict=True):
        _check_columns(name, file, footer.schema.to_arrow_schema(), columns, first)
    given = Path(path).resolve()
    root = given.parent if given.is_file() else given
    stats = {file.relative_to(root).as_posix(): file.stat() for file in files}
    stamps = {file: f"{stat.st_size}-{stat.st_mtime_ns}" for file, stat in stats.items()}
    return InputTable(name, root, tuple(files), sum(footer.num_rows for footer in footers), first, stamps)


def _list_files(name: str, path: Path) -> list[Path]:
    path = path.resolve()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputContractError(f"the {name} table {path} does not exist", f"check inputs.root and inputs.{name}.path")
    files = sorted(
        file
        for file in path.rglob("*.parquet")
        if file.is_file() and not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise InputContractError(f"the {name} table {path} holds no .parquet file", f"check inputs.{name}.path")
    return files


def _footer(name: str, file: Path) -> pq.FileMetaData:
    try:
        return pq.ParquetFile(file).metadata
    except (pa.ArrowException, OSError) as error:
        size = file.stat().st_size if file.is_file() else None
        what = "is empty (0 bytes)" if size == 0 else f"is not readable Parquet: {error}"
        raise InputContractError(f"{file} of the {name} table {what}", "write the file again, or remove it") from error


def _check_columns(
    name: str, file: Path, schema: pa.Schema, columns: Mapping[str, ColumnType], first: pa.Schema
) -> None:
    for column, expected in columns.items():
        where = f"{file} of the {name} table"
        if column not in schema.names:
            raise InputContractError(
                f"{where} lacks the column {column!r}; it has {', '.join(schema.names)}",
                f"name the right column under inputs.{name} or modalities, or mend the file",
            )
        found = schema.field(column).type
        if not expected.accepts(found):
            raise InputContractError(f"{where}: column {column!r} should be {expected.words}, is {found}")
        if found != first.field(column).type:
            raise InputContractError(
                f"{where}: column {column!r} is {found}, but {first.field(column).type} in the table's first file"
            )
