"""Files that must be what they were: compared by size and sha-256 before they are read, on this machine.

A file of a mounted file system is read where it lies; of one in another store this host keeps a copy, named by its
content, so that all processes of the host share it. Copies that nobody opened for longest go where they get too many.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crossweave.errors import ArtifactError, SettingsError, TryAgainError
from crossweave.storage.host import host_folder
from crossweave.storage.location import Location, entries
from crossweave.storage.names import temporary

YOUNG_SECONDS = 300  # a copy asked for in that time stays, however many there are
CHUNK = 1 << 22  # bytes read at a time
MOST = "CROSSWEAVE_COPIES_GB"
"""Environment variable: gigabytes that the copies of a host may take. Without it, half of what its disk holds."""


@dataclass(frozen=True)
class FileMark:
    """What a file must be: its bytes counted and hashed."""

    size: int
    sha256: str


def mark_file(path: Path) -> FileMark:
    """Return the mark of a file of this machine, as it is."""
    return mark_of(Location("file", "", str(path)))


def mark_of(place: Location) -> FileMark:
    """Return the mark of a file as it is."""
    found, size = hashlib.sha256(), 0
    with place.open() as stream:
        while part := stream.read(CHUNK):
            found.update(part)
            size += len(part)
    return FileMark(size, found.hexdigest())


def check_sizes(marks: Mapping[Location, FileMark], what: str, remedy: str) -> None:
    """Look whether files are there, without reading them; ArtifactError naming the first that is gone or differs.

    A copy of this host says nothing of the store.
    """
    for place, entry in zip(marks, entries(list(marks)), strict=True):
        if entry is None or entry.size != marks[place].size:
            found = "is gone" if entry is None else f"has {entry.size} bytes instead of {marks[place].size}"
            raise ArtifactError(f"{what} {place} {found}", remedy)


def verified(place: Location, mark: FileMark, what: str, remedy: str) -> Path:
    """Return a file, on this machine, that is what its mark says.

    Raises ArtifactError naming it where it is gone or differs, TryAgainError where the host has no room for a copy.
    """
    if place.is_local:
        verify_file(place.local, mark, what, remedy)
        return place.local
    copy = host_folder("-copies") / f"{mark.sha256}{Path(place.name).suffix}"
    with _alone(copy):
        try:
            verify_file(copy, mark, what, remedy)
        except ArtifactError:
            _fetch(place, copy, mark, what, remedy, copy.parent)
        os.utime(copy, ns=(time.time_ns(), copy.stat().st_mtime_ns))  # last opened now, changed never
    return copy


def verified_folder(place: Location, marks: Mapping[str, FileMark], what: str, remedy: str) -> Path:
    """Return a folder, on this machine, whose files are what their marks say; other files in it do not count.

    Raises as `verified` does. Libraries that load a model want its files side by side, under their own names.
    """
    if place.is_local:
        for name, mark in marks.items():
            verify_file(place.local / name, mark, what, remedy)
        return place.local
    named = "".join(f"{name}\0{mark.sha256}\n" for name, mark in sorted(marks.items()))
    copy = host_folder("-copies") / hashlib.sha256(named.encode()).hexdigest()
    with _alone(copy):
        try:
            for name, mark in marks.items():
                verify_file(copy / name, mark, what, remedy)
        except ArtifactError:
            shutil.rmtree(copy, ignore_errors=True)
            draft = temporary(copy)
            try:
                for name, mark in marks.items():
                    (draft / name).parent.mkdir(parents=True, exist_ok=True)
                    _fetch(place / name, draft / name, mark, what, remedy, copy.parent)
                draft.rename(copy)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        os.utime(copy)
    return copy


_VERIFIED: set[tuple[str, int, int, int, str]] = set()
"""What this process has compared already: path, inode, size, time of change and hash."""


def verify_file(path: Path, mark: FileMark, what: str, remedy: str) -> None:
    """Compare a file with its mark, once a process; raises ArtifactError naming it where it is gone or differs."""
    _verify(path, mark, f"{what} {path}", remedy)


def _verify(path: Path, mark: FileMark, name: str, remedy: str) -> None:
    try:
        stat = path.stat()
    except OSError as error:
        raise ArtifactError(f"{name} cannot be read: {error.strerror}", remedy) from error
    key = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, mark.sha256)
    if key in _VERIFIED:
        return
    if stat.st_size != mark.size:
        raise ArtifactError(f"{name} has {stat.st_size} bytes instead of {mark.size}", remedy)
    if mark_file(path) != mark:
        raise ArtifactError(f"{name} is not the one that was written: its sha-256 differs", remedy)
    _VERIFIED.add(key)


def _fetch(place: Location, copy: Path, mark: FileMark, what: str, remedy: str, room: Path) -> None:
    """Copy a file to this host; nobody sees a copy that is not whole. `room` is the folder of all copies."""
    entry = place.entry()
    if entry is None:
        raise ArtifactError(f"{what} {place} cannot be read: it is gone", remedy)
    if entry.size != mark.size:
        raise ArtifactError(f"{what} {place} has {entry.size} bytes instead of {mark.size}", remedy)
    _make_room(room, mark.size)
    draft = temporary(copy)
    try:
        place.download(draft)
        _verify(draft, mark, f"{what} {place}", remedy)
        draft.replace(copy)
    except OSError as error:
        raise TryAgainError(
            f"{place} cannot be copied to {copy.parent}: {error.strerror or error}",
            "free space there, or set TMPDIR (on workers: spark.executorEnv.TMPDIR) to a local folder with room",
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _make_room(folder: Path, size: int) -> None:
    """Remove the copies that nobody opened for longest, until there is room. Who has one mapped goes on reading it."""
    most, held, found = _most_bytes(folder), size, list[tuple[int, int, Path]]()
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has made room just now
            if not path.name.startswith("."):
                own = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
                held += own
                stat = path.stat()
                # Of a folder, to look into it is to open it: the time of change stands for that of opening there.
                found.append((stat.st_mtime_ns if path.is_dir() else stat.st_atime_ns, own, path))
    for opened, own, path in sorted(found):
        # Who was told of a copy a moment ago has yet to open it.
        if held <= most or time.time_ns() - opened < YOUNG_SECONDS * 10**9:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        held -= own


def _most_bytes(folder: Path) -> int:
    given = os.environ.get(MOST, "")
    if not given:
        return shutil.disk_usage(folder).total // 2
    try:
        return int(float(given) * 1e9)
    except ValueError as error:
        raise SettingsError(f"{MOST} expects a number of gigabytes, got {given}") from error


@contextlib.contextmanager
def _alone(copy: Path) -> Iterator[None]:
    """Let one process of the host fetch a file while the others wait."""
    with (copy.parent / f".{copy.name[:2]}.lock").open("w") as stream:  # 256 of them, which stay
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
