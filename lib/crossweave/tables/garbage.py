"""Finds what nobody can need any more: data files of old versions and of attempts that never committed, old tables."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Set
from dataclasses import dataclass

from crossweave.errors import TableError
from crossweave.storage.location import Location
from crossweave.tables.store import TableStore

FEATURES = "features"


@dataclass(frozen=True)
class Garbage:
    """A file, or a folder that goes as a whole."""

    place: Location
    size: int  # bytes


def folder_garbage(folder: Location) -> Garbage:
    """Return a folder as garbage, with the bytes of what is in it."""
    return Garbage(folder, sum(entry.size for _, entry in folder.walk()))


def table_names(store: TableStore) -> list[str]:
    """Name every table of a store, feature tables among them."""
    folders = [*store.root.children(), *(store.root / FEATURES).children()]
    return sorted(folder.below(store.root) for folder in folders if (folder / "_delta_log").is_folder())


def table_garbage(
    store: TableStore,
    name: str,
    in_use: Iterable[int],
    keep_versions: int,
    before: datetime.datetime,
    spare: Set[int] = frozenset(),
) -> list[Garbage]:
    """Return the data files of a table that no kept version names and that are older than `before`.

    Kept are the versions `in_use`, the newest `keep_versions`, every version that was the newest one at any time
    since `before`, and those `spare` ones that the log still knows. Raises TableError where a version in use does not
    exist, or the log is damaged.
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
    kept = {v for v, when in replaced.items() if when is None or when >= before or v > newest - keep_versions}
    kept |= wanted | (spare & commits.keys())
    live = set().union(*(store.data_files(name, version) for version in kept))
    folder = store.folder(name)
    return [
        Garbage(place, entry.size)
        for place, entry in (folder / "data").walk()
        if entry.modified < before and place.below(folder) not in live
    ]


def last_change(store: TableStore, name: str) -> datetime.datetime:
    """Return when a table was last committed to."""
    return max(store.commits(name).values())
