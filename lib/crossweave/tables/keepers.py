"""Tables whose log says which of their files are live: read as plain Parquet, replaced rows would come back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from crossweave.errors import InputContractError, SettingsError
from crossweave.storage.location import Location
from crossweave.storage.stores import Store

KEEPERS = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table", "_spark_metadata": "the output of a Spark stream"}
"""A folder that says which files of a table are live -> what the table is."""
ICEBERG = ("metadata", ".metadata.json")
"""The folder of an Iceberg table's log, and what its files' names hold; an ending such as .gz may follow."""
OF_ICEBERG = "an Iceberg table"


def refuse_keepers_above(name: str, place: Location) -> None:
    """Raise InputContractError where a file or folder lies in such a table, in a file system also through its links."""
    above = _parents(place)
    if place.is_local:
        above = list(dict.fromkeys((*above, *_parents(Location("file", "", str(place.local.resolve()))))))
    store = place.store
    with ThreadPoolExecutor(16) as pool:  # questions to a store take their time
        for folder, what in zip(above, pool.map(lambda folder: _asked(store, folder), above), strict=True):
            if what is not None:
                raise _refusal(name, folder, what)


def refuse_keeper_in(name: str, root: Location, parts: Sequence[str]) -> None:
    """Raise InputContractError where a file, by the parts of its path below a folder, belongs to the log of a table."""
    for depth, part in enumerate(parts[:-1]):
        what = KEEPERS.get(part)
        if what is None and (part, len(parts) - depth) == (ICEBERG[0], 2) and ICEBERG[1] in parts[-1]:
            what = OF_ICEBERG
        if what is not None:
            folder = "/".join(parts[:depth])
            raise _refusal(name, root / folder if folder else root, what)


def _parents(place: Location) -> list[Location]:
    found = [place.parent]
    while found[-1].parent != found[-1]:
        found.append(found[-1].parent)
    return found


def _asked(store: Store, folder: Location) -> str | None:
    """Return what table a folder is, where one may look into it: rights in a store often begin at the table."""
    try:
        # One listing is fewer requests; a folder of this machine can be long, and closed to who may look into it.
        near = (*KEEPERS, ICEBERG[0]) if folder.is_local else store.names(folder.path)
        found = [keeper for keeper in KEEPERS if keeper in near and store.is_folder((folder / keeper).path)]
        if found:
            return KEEPERS[found[0]]
        log = store.names((folder / ICEBERG[0]).path) if ICEBERG[0] in near else []
        return OF_ICEBERG if any(ICEBERG[1] in name for name in log) else None
    except PermissionError:
        return None
    except SettingsError as error:
        if isinstance(error.__cause__, PermissionError):
            return None
        raise


def _refusal(name: str, folder: Location, what: str) -> InputContractError:
    return InputContractError(
        f"the {name} table: {folder} is {what}, whose log says which of its files and rows are live; read as plain "
        "Parquet, deleted and replaced rows would come back",
        "write it out as plain Parquet with a program that reads it, such as Spark: "
        'spark.read.format("delta" | "iceberg" | "hudi").load(…).write.parquet(…)',
    )
