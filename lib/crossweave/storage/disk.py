"""The file systems that this machine has mounted."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from crossweave.storage.names import temporary
from crossweave.storage.stores import Entry, Store


class Disk(Store):
    """What this machine has mounted."""

    def entry(self, path: str) -> Entry | None:
        """Return what a file is like; None where there is none."""
        try:
            found = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if stat.S_ISDIR(found.st_mode) else _entry_of(found)

    def is_folder(self, path: str) -> bool:
        """Say whether a folder is there."""
        return Path(path).is_dir()

    def names(self, path: str) -> list[str]:
        """Name what lies directly in a folder."""
        return [found.name for found in Path(path).iterdir()] if Path(path).is_dir() else []

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield all files below a folder; links are followed to files, never to folders."""
        for top, _, files in os.walk(path):
            for name in files:
                found = Path(top, name)
                with contextlib.suppress(FileNotFoundError):  # gone in the meantime, or a link to nothing
                    yield str(found), _entry_of(found.stat())

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        return Path(path).open("rb")

    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole, and wait until the disk has it."""
        with _draft_of(path) as draft:
            _write(draft, data)
            draft.replace(path)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file, whole, unless there is one."""
        with _draft_of(path) as draft:
            _write(draft, data)
            try:
                os.link(draft, path)
            except FileExistsError:
                return False
        return True

    def upload(self, source: Path, path: str) -> None:
        """Copy a file, whole."""
        with _draft_of(path) as draft:
            shutil.copyfile(source, draft)
            draft.replace(path)

    @contextlib.contextmanager
    def placing(self, path: str) -> Iterator[Path]:
        """Give a path beside the file's place, which then takes it, when the disk has it."""
        with _draft_of(path) as draft:
            yield draft
            with draft.open("rb+") as stream:
                os.fsync(stream.fileno())
            draft.replace(path)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it."""
        if Path(path).is_dir() and not Path(path).is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)


def _entry_of(found: os.stat_result) -> Entry:
    when = datetime.datetime.fromtimestamp(found.st_mtime, datetime.UTC)
    return Entry(found.st_size, when, f"{found.st_size}-{found.st_mtime_ns}")


@contextlib.contextmanager
def _draft_of(path: str) -> Iterator[Path]:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = temporary(target)
    try:
        yield draft
    except Exception:
        draft.unlink(missing_ok=True)
        raise
    draft.unlink(missing_ok=True)


def _write(draft: Path, data: bytes) -> None:
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
