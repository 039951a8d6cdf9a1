"""How files hold the columns of a table: where each stands, and what Spark is told to read of it.

The Arrow schema that some writers keep in a file's metadata is used for nothing but the nesting of its columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from crossweave.errors import InputContractError
from crossweave.storage.location import Location
from crossweave.storage.stores import Ranged, Store
from crossweave.tables.leaf_types import Stored, leaf

UNREADABLE_CODECS = {"BROTLI", "LZO"}
UNREADABLE_ENCODINGS = {"BYTE_STREAM_SPLIT"}


@dataclass(frozen=True)
class FileColumn:
    """A column of a file, or a field of a struct: where it stands, and how it is held there."""

    path: tuple[str, ...]  # the column, then the fields below it
    stored: Stored
    leaves: range  # its leaf columns, by their number in the file


class FileColumns:
    """The columns of one file."""

    def __init__(self, footer: pq.FileMetaData) -> None:
        schema = footer.schema
        self._arrow = schema.to_arrow_schema()
        self._leaves = [schema.column(place) for place in range(len(schema))]
        self._footer = footer
        self._found: dict[str, FileColumn | None] = {}
        self.names: list[str] = self._arrow.names

    @property
    def twins(self) -> bool:
        """Say whether fields beside each other, at any depth, differ by nothing but case."""
        paths = [leaf.path.split(".") for leaf in self._leaves]
        every = {tuple(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}
        return len({tuple(map(str.lower, path)) for path in every}) < len(every)

    def find(self, name: str) -> FileColumn | None:
        """Return the column of this name, or the field of a struct that it names with dots; None: there is none."""
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> FileColumn | None:
        if name in self.names:
            return self._at((name,))
        parts = name.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            found = self._at((".".join(parts[:cut]), *parts[cut:]))
            if found is not None:
                return found
        return None

    def unreadable_pages(self, column: FileColumn) -> str:
        """Name the compression or encoding of a column's pages that Spark does not know; empty: it knows all."""
        for group in range(self._footer.num_row_groups):
            for place in column.leaves:
                chunk = self._footer.row_group(group).column(place)
                if chunk.compression in UNREADABLE_CODECS:
                    return f"is compressed by {chunk.compression.lower()}"
                strange = UNREADABLE_ENCODINGS.intersection(chunk.encodings)
                if strange:
                    return f"is encoded as {strange.pop()}"
        return ""

    def _at(self, path: tuple[str, ...]) -> FileColumn | None:
        if path[0] not in self.names:
            return None
        place = self.names.index(path[0])
        start = sum(_leaf_count(self._arrow.field(before).type) for before in range(place))
        kind = self._arrow.field(place).type
        for field in path[1:]:
            kind = _storage(kind)
            index = kind.get_field_index(field) if pa.types.is_struct(kind) else -1
            if index < 0:
                return None
            start += sum(_leaf_count(kind.field(before).type) for before in range(index))
            kind = kind.field(index).type
        leaves = range(start, start + _leaf_count(kind))
        return FileColumn(path, _stored(kind, iter(self._leaves[start:])), leaves)


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _leaf_count(kind: pa.DataType) -> int:
    kind = _storage(kind)
    if _is_list(kind):
        return _leaf_count(kind.value_type)
    if pa.types.is_map(kind):
        return _leaf_count(kind.key_type) + _leaf_count(kind.item_type)
    return sum(_leaf_count(kind[i].type) for i in range(kind.num_fields)) if pa.types.is_struct(kind) else 1


def _stored(kind: pa.DataType, leaves: Iterator[pq.ColumnSchema]) -> Stored:
    """Return how a column is held whose nesting is that of `kind`, and whose leaf columns come next."""
    kind = _storage(kind)
    if _is_list(kind):
        return _list(_stored(kind.value_type, leaves))
    if pa.types.is_map(kind):
        return _map(_stored(kind.key_type, leaves), _stored(kind.item_type, leaves))
    if pa.types.is_struct(kind):
        return _struct({kind[i].name: _stored(kind[i].type, leaves) for i in range(kind.num_fields)}, kind.num_fields)
    return leaf(next(leaves))


def _list(of: Stored) -> Stored:
    read = None if of.read is None else T.ArrayType(of.read)
    inner = of.convert
    convert = None if inner is None else lambda column: F.transform(column, lambda element: inner(element))
    return Stored(f"list<{of.words}>", pa.list_(of.kind), read, convert)


def _map(key: Stored, item: Stored) -> Stored:
    # A key that has to be converted could meet another one that becomes the same.
    readable = key.read is not None and item.read is not None and key.convert is None
    read = T.MapType(key.read, item.read) if readable else None  # type: ignore[arg-type]
    inner = item.convert
    convert = None if inner is None else lambda column: F.transform_values(column, lambda _, value: inner(value))
    return Stored(f"map<{key.words}, {item.words}>", pa.map_(key.kind, item.kind), read, convert)


def _struct(fields: Mapping[str, Stored], count: int) -> Stored:
    words = "struct<" + ", ".join(f"{name}: {field.words}" for name, field in fields.items()) + ">"
    kind = pa.struct([(name, field.kind) for name, field in fields.items()])
    if len({name.lower() for name in fields}) < count:
        return Stored(f"{words} with fields that differ only in case", kind, None)
    if any(field.read is None for field in fields.values()):
        return Stored(words, kind, None)
    read = T.StructType([T.StructField(name, field.read) for name, field in fields.items()])  # type: ignore[arg-type]
    if not any(field.convert for field in fields.values()):
        return Stored(words, kind, read)

    def convert(column: Column) -> Column:
        made = [
            (field.convert(column[name]) if field.convert else column[name]).alias(name)
            for name, field in fields.items()
        ]
        return F.when(column.isNotNull(), F.struct(*made))

    return Stored(words, kind, read, convert)


class _Pieces(Ranged):
    """A file of a store, of which the end comes in one request, which nearly every footer fits into."""

    END = 1 << 16  # what pyarrow reads first, too

    def __init__(self, store: Store, path: str, size: int) -> None:
        super().__init__(size)
        self._store, self._path = store, path
        self._start = max(0, size - self.END)
        self._end = store.piece(path, self._start, size) if size else b""

    def read(self, count: int = -1) -> bytes:
        start, stop = self._at, self._size if count < 0 else min(self._at + count, self._size)
        if start >= stop:
            return b""
        self._at = stop
        if start < self._start:
            return self._store.piece(self._path, start, stop)
        return self._end[start - self._start : stop - self._start]


def read_footer(name: str, file: Location, store: Store, size: int) -> pq.FileMetaData:
    """Read the footer of a file of a store; raises InputContractError naming it where it cannot be read, and why."""
    where = f"{file} of the {name} table"
    try:
        opened = store.open(file.path) if file.is_local else cast(BinaryIO, _Pieces(store, file.path, size))
    except OSError as error:
        why = error.strerror or "it has just gone"
        raise InputContractError(f"{where} cannot be read: {why}", "mend its permissions") from error
    with opened as stream:
        size = stream.seek(0, io.SEEK_END)
        if size == 0:
            raise InputContractError(f"{where} is empty (0 bytes)", "write the file again, or remove it")
        stream.seek(-min(size, 8), io.SEEK_END)
        length, magic = int.from_bytes(stream.read(4), "little"), stream.read(4)
        try:
            footer = None if magic == b"PARE" else pq.ParquetFile(stream).metadata
        except (pa.ArrowException, OSError) as error:
            if "LogicalType" in str(error):
                raise InputContractError(
                    f"{where} has a column of a type newer than this reader (float16, variant, geometry): {error}",
                    "write that column as another type (a float), or leave it out of the file",
                ) from error
            raise InputContractError(
                f"{where} is not readable Parquet: {error}", "write the file again, or remove it"
            ) from error
    # A signature behind a plain footer says that columns are encrypted; pyarrow would end the process at a look at one.
    if footer is None or footer.serialized_size != length:
        raise InputContractError(
            f"{where} is encrypted Parquet, whose keys are not known here", "write it without encryption"
        )
    return footer
