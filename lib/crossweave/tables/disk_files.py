"""What a file system can do beyond a store: links, circles of them, two names of one file, what is no file at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from crossweave.errors import InputContractError
from crossweave.storage.location import Location
from crossweave.storage.stores import Entry
from crossweave.tables.keepers import refuse_keepers_above


def as_given(path: str) -> Location:
    """Return a path with the links above it followed, and itself called as it is."""
    given = Path(path).absolute()
    return Location("file", "", str(given.parent.resolve() / given.name if given.name else given.resolve()))


def walk_linked(name: str, root: Location, hidden: Callable[[str], bool]) -> Iterator[tuple[str, Entry | None]]:
    """Yield the path below a folder of all files, links followed, with what each is like; None: it is no file.

    What is hidden comes by its name alone, folders with a slash behind it: nobody looks into them.
    """

    def fail(error: OSError) -> None:
        raise InputContractError(
            f"the folder {error.filename} of the {name} table cannot be read: {error.strerror}"
        ) from error

    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(root.path, followlinks=True, onerror=fail):
        folder, stat = Path(place), Path(place).stat()
        if (stat.st_dev, stat.st_ino) in seen:
            raise InputContractError(
                f"the folder {folder} of the {name} table is reached by two ways", "remove the link that leads there"
            )
        seen.add((stat.st_dev, stat.st_ino))
        below = "" if place == root.path else f"{folder.relative_to(root.path).as_posix()}/"
        yield from ((f"{below}{entry}/", None) for entry in folders if hidden(entry))
        yield from ((f"{below}{entry}", None) for entry in files if hidden(entry))
        for link in (folder / entry for entry in (*folders, *files) if (folder / entry).is_symlink()):
            refuse_keepers_above(name, Location("file", "", str(link)))
        folders[:] = [entry for entry in folders if not hidden(entry)]
        for entry in (entry for entry in files if not hidden(entry)):
            file = folder / entry
            yield f"{below}{entry}", Location("file", "", str(file)).entry() if file.is_file() else None


def refuse_twice(name: str, files: Iterable[Location]) -> None:
    """Raise InputContractError where two names lead to one file."""
    known: dict[tuple[int, int], Location] = {}
    for file in files:
        stat = file.local.stat()
        first = known.setdefault((stat.st_dev, stat.st_ino), file)
        if first is not file:
            raise InputContractError(
                f"{first} and {file} of the {name} table are one file: its rows would count twice", "remove one link"
            )
