"""Which files an input table is made of: all of them are read, refused, or named as passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import unquote

from crossweave.errors import InputContractError
from crossweave.storage.location import Location, is_url
from crossweave.storage.stores import Entry, Store
from crossweave.tables.disk_files import as_given, refuse_twice, walk_linked
from crossweave.tables.keepers import refuse_keeper_in, refuse_keepers_above
from crossweave.tables.paths import PATTERN

ENDINGS = (".parquet", ".parq", ".pq")
MAGIC = b"PAR1"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
SIDE_FILES = ("_success", "_metadata", "_common_metadata", "_committed_", "_started_", "_temporary")
FOLDER_MARK = "_$folder$"
"""How the empty objects end by which older writers mark a folder in a store."""
THREADS = 16


@dataclass(frozen=True)
class InputFiles:
    """The Parquet files of a table, and what lies beside them."""

    root: Location
    entries: Mapping[str, Entry]  # file, by its path below the root, in the order of reading -> what it is like
    passed_over: tuple[str, ...]

    @cached_property
    def files(self) -> tuple[Location, ...]:
        """Where the files lie."""
        return tuple(_below(self.root, path) for path in self.entries)

    def folder_values(self, path: str) -> Mapping[str, str | None]:
        """Return the columns that folders such as `brand=Acme` give all rows of a file."""
        parts = [part.partition("=") for part in path.split("/")[:-1] if "=" in part]
        return {unquote(key): None if value == NO_VALUE else unquote(value) for key, _, value in parts}


def find_files(name: str, path: str) -> InputFiles:
    """Find the Parquet files of the table at a path or URL: one file, or a folder with all below it, links followed.

    Raises InputContractError naming the path: absent, a lake table (Delta, Iceberg, Hudi, a stream's output) or part of
    one, no Parquet file, the same file by two names, a link to nothing, a name that Spark passes over or cannot open, a
    file that looks like Parquet and is called otherwise.
    """
    given = Location.of(path) if is_url(path) else as_given(path)
    is_file, is_folder = _look(given)
    if not is_file and not is_folder:
        raise InputContractError(
            f"the {name} table {given} does not exist", f"check inputs.root and inputs.{name}.path"
        )
    refuse_keepers_above(name, given)
    if is_file:
        return _one_file(name, given, is_folder)
    root = Location("file", "", str(given.local.resolve())) if given.is_local else given
    entries: dict[str, Entry] = {}
    found, passed = _parted(name, root)
    with ThreadPoolExecutor(THREADS) as pool:
        store, paths = root.store, sorted(found, key=lambda path: path.split("/"))
        chosen = pool.map(lambda path: _is_table_file(name, store, _below(root, path), found[path]), paths)
        for path, entry in zip(paths, chosen, strict=True):
            if entry is None:
                passed.add(path)
            else:
                _check_name(name, _below(root, path))
                entries[path] = entry
    if not entries:
        there = f"; it holds {', '.join(sorted(passed)[:3])}" if passed else ""
        raise InputContractError(f"the {name} table {root} holds no .parquet file{there}", f"check inputs.{name}.path")
    files = InputFiles(root, entries, tuple(sorted(passed)))
    if root.is_local:
        refuse_twice(name, files.files)
    return files


def is_hidden(name: str) -> bool:
    """Say whether Spark passes over a file or folder of this name."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _look(given: Location) -> tuple[bool, bool]:
    """Say whether there is a file, and whether there is a folder: a store may have both by one name."""
    if given.is_local:
        return given.local.is_file(), given.local.exists() and not given.local.is_file()
    return given.is_file(), given.is_folder()


def _one_file(name: str, file: Location, is_folder: bool) -> InputFiles:
    if is_folder:
        raise InputContractError(
            f"{file} of the {name} table is a file and a folder at once: only one of them can be the table",
            "move the file into the folder, or one of them away",
        )
    if is_hidden(file.name):
        raise InputContractError(
            f"{file} of the {name} table: Spark passes over files whose name begins with _ or .", "rename the file"
        )
    _check_name(name, file)
    entry = file.entry()
    if entry is None:
        raise InputContractError(f"{file} of the {name} table has just gone", "run the same command again")
    return InputFiles(file.parent, {file.name: entry}, ())


def _below(root: Location, path: str) -> Location:
    return Location(root.scheme, root.host, f"{root.path.rstrip('/')}/{path}")


def _parted(name: str, root: Location) -> tuple[dict[str, Entry | None], set[str]]:
    """Return the files below a folder that are not hidden, and what is and should not be; refuses the logs of tables.

    All by their paths below the folder.
    """
    found: dict[str, Entry | None] = {}
    passed: set[str] = set()
    for path, entry in walk_linked(name, root, is_hidden) if root.is_local else _walk_store(root):
        parts = path.split("/")
        hidden = next((at for at, part in enumerate(parts) if is_hidden(part)), len(parts))
        refuse_keeper_in(name, root, parts[: hidden + 2])
        if hidden == len(parts):
            found[path] = entry
        elif parts[hidden][0] != "." and not parts[hidden].lower().startswith(SIDE_FILES):
            passed.add("/".join(parts[: hidden + 1]))
    return found, passed


def _walk_store(root: Location) -> Iterator[tuple[str, Entry]]:
    start = len(root.path.rstrip("/")) + 1
    for file, entry in root.walk():
        if entry.size or not file.path.endswith(FOLDER_MARK):
            yield file.path[start:], entry


def _is_table_file(name: str, store: Store, file: Location, entry: Entry | None) -> Entry | None:
    """Return what a file of the table is like; None where neither its name nor its content is like Parquet."""
    if entry is None:
        raise InputContractError(f"{file} of the {name} table is a link to nothing, or no file", "mend or remove it")
    suffix = PurePosixPath(file.name).suffix
    if suffix.lower() in ENDINGS:
        return entry
    is_parquet = entry.size >= len(MAGIC) and store.piece(file.path, 0, len(MAGIC)) == MAGIC
    if is_parquet and not suffix:  # as Hive and Impala write them
        return entry
    if is_parquet or any(ending in file.name.lower() for ending in ENDINGS[:2]):
        raise InputContractError(
            f"{file} of the {name} table looks like Parquet, but is not called like it",
            "name it .parquet if its rows belong to the table (unpack it first where it is packed), or move it away",
        )
    return None


def _check_name(name: str, file: Location) -> None:
    """Raise for a file that Spark would pass over or could not open because of its own name."""
    problem = ""
    try:
        file.path.encode()
    except UnicodeEncodeError:
        problem = "has a name that is not UTF-8"
    if ":" in file.name:
        problem = "has a colon in its name, which Hadoop cannot open"
    elif ":" in file.path and PATTERN.search(file.path):
        problem = "has a colon in its path beside one of [ ] { } * ? or a backslash, which Hadoop cannot open"
    if {"", ".", ".."}.intersection(file.path.split("/")[1:]):
        problem = "has a part of its path that is empty or nothing but dots, which Hadoop cannot open"
    if file.name.endswith("._COPYING_"):
        problem = "is half copied: Spark passes over such names"
    if problem:
        shown = str(file).encode("utf-8", "backslashreplace").decode()
        raise InputContractError(f"{shown} of the {name} table {problem}", "rename the file or its folder")
