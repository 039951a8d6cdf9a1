"""Which files an input table is made of: all of them are read, refused, or named as passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from crossweave.errors import InputContractError
from crossweave.tables.paths import PATTERN

ENDINGS = (".parquet", ".parq", ".pq")
MAGIC = b"PAR1"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
KEEPERS = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table", "_spark_metadata": "the output of a Spark stream"}
"""A folder that says which files of a table are live -> what the table is."""
SIDE_FILES = ("_success", "_metadata", "_common_metadata", "_committed_", "_started_", "_temporary")


@dataclass(frozen=True)
class InputFiles:
    """The Parquet files of a table, and what lies beside them."""

    root: Path
    files: tuple[Path, ...]
    passed_over: tuple[str, ...]

    def folder_values(self, file: Path) -> Mapping[str, str | None]:
        """Return the columns that folders such as `brand=Acme` give all rows of a file."""
        parts = [part.partition("=") for part in file.relative_to(self.root).parts[:-1] if "=" in part]
        return {unquote(key): None if value == NO_VALUE else unquote(value) for key, _, value in parts}


def find_files(name: str, path: Path) -> InputFiles:
    """Find the Parquet files of the table at a path: one file, or a folder with all below it, links followed.

    Raises InputContractError naming the path: absent, a lake table (Delta, Iceberg, Hudi, a stream's output) or part of
    one, no Parquet file, the same file by two names, a link to nothing, a name that Spark passes over or cannot open, a
    file that looks like Parquet and is called otherwise.
    """
    given = path.absolute()
    given = given.parent.resolve() / given.name if given.name else given.resolve()
    if not given.exists():
        raise InputContractError(
            f"the {name} table {given} does not exist", f"check inputs.root and inputs.{name}.path"
        )
    _refuse_keepers_above(name, given)
    if given.is_file():
        if is_hidden(given.name):
            raise InputContractError(
                f"{given} of the {name} table: Spark passes over files whose name begins with _ or .", "rename the file"
            )
        _check_name(name, given)
        return InputFiles(given.parent, (given,), ())
    root = given.resolve()
    files: list[Path] = []
    passed: list[str] = []
    for file in sorted(_walk(name, root, passed)):
        if _is_table_file(name, file):
            _check_name(name, file)
            files.append(file)
        else:
            passed.append(file.relative_to(root).as_posix())
    if not files:
        there = f"; it holds {', '.join(sorted(passed)[:3])}" if passed else ""
        raise InputContractError(f"the {name} table {root} holds no .parquet file{there}", f"check inputs.{name}.path")
    _refuse_twice(name, files)
    return InputFiles(root, tuple(files), tuple(sorted(passed)))


def is_hidden(name: str) -> bool:
    """Say whether Spark passes over a file or folder of this name."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _walk(name: str, root: Path, passed: list[str]) -> Iterator[Path]:
    """Yield all files that are not hidden, links followed."""

    def fail(error: OSError) -> None:
        raise InputContractError(
            f"the folder {error.filename} of the {name} table cannot be read: {error.strerror}"
        ) from error

    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=fail):
        folder, stat = Path(place), Path(place).stat()
        if (stat.st_dev, stat.st_ino) in seen:
            raise InputContractError(
                f"the folder {folder} of the {name} table is reached by two ways", "remove the link that leads there"
            )
        seen.add((stat.st_dev, stat.st_ino))
        _refuse_keeper(name, folder)
        for link in (folder / entry for entry in (*folders, *files) if (folder / entry).is_symlink()):
            _refuse_keepers_above(name, link)
        hidden = [entry for entry in (*folders, *files) if is_hidden(entry)]
        known = [entry for entry in hidden if entry[0] == "." or entry.lower().startswith(SIDE_FILES)]
        passed += [(folder / entry).relative_to(root).as_posix() for entry in hidden if entry not in known]
        folders[:] = [entry for entry in folders if not is_hidden(entry)]
        yield from (folder / entry for entry in files if not is_hidden(entry))


def _is_table_file(name: str, file: Path) -> bool:
    """Say whether a file is one of the table's; it is none where neither its name nor its content is like Parquet."""
    if not file.is_file():
        raise InputContractError(f"{file} of the {name} table is a link to nothing, or no file", "mend or remove it")
    if file.suffix.lower() in ENDINGS:
        return True
    with file.open("rb") as stream:
        is_parquet = stream.read(len(MAGIC)) == MAGIC
    if is_parquet and not file.suffix:  # as Hive and Impala write them
        return True
    if is_parquet or any(ending in file.name.lower() for ending in ENDINGS[:2]):
        raise InputContractError(
            f"{file} of the {name} table looks like Parquet, but is not called like it",
            "name it .parquet if its rows belong to the table (unpack it first where it is packed), or move it away",
        )
    return False


def _check_name(name: str, file: Path) -> None:
    """Raise for a file that Spark would pass over or could not open because of its own name."""
    problem = ""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        problem = "has a name that is not UTF-8"
    if ":" in file.name:
        problem = "has a colon in its name, which Hadoop cannot open"
    elif ":" in str(file) and PATTERN.search(str(file)):
        problem = "has a colon in its path beside one of [ ] { } * ? or a backslash, which Hadoop cannot open"
    if file.name.endswith("._COPYING_"):
        problem = "is half copied: Spark passes over such names"
    if problem:
        shown = str(file).encode("utf-8", "backslashreplace").decode()
        raise InputContractError(f"{shown} of the {name} table {problem}", "rename the file or its folder")


def _refuse_keepers_above(name: str, path: Path) -> None:
    for folder in dict.fromkeys((*path.parents, *path.resolve().parents)):
        _refuse_keeper(name, folder)


def _refuse_keeper(name: str, folder: Path) -> None:
    what = next((what for keeper, what in KEEPERS.items() if (folder / keeper).is_dir()), None)
    if what is None and any((folder / "metadata").glob("*.metadata.json")):
        what = "an Iceberg table"
    if what is not None:
        raise InputContractError(
            f"the {name} table: {folder} is {what}, whose log says which of its files and rows are live; read as plain "
            "Parquet, deleted and replaced rows would come back",
            "write it out as plain Parquet with a program that reads it, such as Spark: "
            'spark.read.format("delta" | "iceberg" | "hudi").load(…).write.parquet(…)',
        )


def _refuse_twice(name: str, files: list[Path]) -> None:
    known: dict[tuple[int, int], Path] = {}
    for file in files:
        stat = file.stat()
        first = known.setdefault((stat.st_dev, stat.st_ino), file)
        if first is not file:
            raise InputContractError(
                f"{first} and {file} of the {name} table are one file: its rows would count twice", "remove one link"
            )
