"""Finds what nobody can need any more: data files of old versions and of attempts that never committed, old tables."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from crossweave.errors import TableError
from crossweave.tables.store import TableStore

FEATURES = "features"


@dataclass(frozen=True)
class Garbage:
    """A file, or a folder that goes as a whole."""

    path: Path
    size: int  # bytes

    def remove(self) -> None:
        """Remove it; what is gone already is fine."""
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


def folder_garbage(folder: Path) -> Garbage:
    """Return a folder as garbage, with the bytes of what is in it."""
    return Garbage(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def table_names(store: TableStore) -> list[str]:
    """Name every table of a store, feature tables among them."""
    logs = [*store.root.glob("*/_delta_log"), *store.root.glob(f"{FEATURES}/*/_delta_log")]
    return sorted(log.parent.relative_to(store.root).as_posix() for log in logs)


def table_garbage(
    store: TableStore, name: str, in_use: Iterable[int], keep_versions: int, before: datetime.datetime
) -> list[Garbage]:
    """Return the data files of a table that no kept version names and that are older than `before`.

    Kept are the versions `in_use`, the newest `keep_versions`, and every version that was the newest one at any time
    since `before`. Raises TableError where a version in use does not exist, or the log is damaged.
    """
    commits = store.commits(name)
    newest = max(commits)
    wanted = set(in_use)
    if max(wanted, default=0) > newest:
        raise TableError(
            f"version {max(wanted)} of table {name} is in use, but its log ends at {newest}",
            "restore the table's folder from a backup; nothing was removed",
        )
    replaced = {version: commits.get(version + 1) for version in commits}
    kept = {v for v, when in replaced.items() if when is None or when >= before or v > newest - keep_versions} | wanted
    live = set().union(*(store.data_files(name, version) for version in kept))
    old = [path for path in (store.folder(name) / "data").rglob("*") if path.is_file() and written(path) < before]
    return [
        Garbage(path, path.stat().st_size)
        for path in sorted(old)
        if path.relative_to(store.folder(name)).as_posix() not in live
    ]


def last_change(store: TableStore, name: str) -> datetime.datetime:
    """Return when a table was last committed to."""
    return max(store.commits(name).values())


def remove_empty_folders(root: Path) -> None:
    """Remove folders below `root` that hold nothing."""
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
        if not any(folder.iterdir()):
            folder.rmdir()


def written(path: Path) -> datetime.datetime:
    """Return when a file or folder was last written."""
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
