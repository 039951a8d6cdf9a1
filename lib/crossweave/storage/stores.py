"""The kinds of stores, each with the same few verbs: mounted file systems, object stores and HDFS."""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

AGAIN = "run the same command again; if it stays, ask ./submit.sh doctor"
BUFFER = 1 << 20  # bytes read ahead of HDFS


@dataclass(frozen=True)
class Entry:
    """A file as a listing shows it. One of the same tag is taken for the same file."""

    size: int  # bytes
    modified: datetime.datetime
    tag: str


class Store(ABC):
    """The verbs; paths are absolute within the store."""

    for_pyarrow: Any = None
    """The store as pyarrow's file systems are asked; None where pyarrow needs none."""
    options_of_delta: Mapping[str, str] | None = None
    """What delta-rs must be told beside what it reads from the environment."""

    @abstractmethod
    def entry(self, path: str) -> Entry | None:
        """Return what a file is like; None where there is none."""

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """Say whether a folder is there, or anything below it."""

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """Name what lies directly in a folder."""

    @abstractmethod
    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield all files below a folder."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file for reading, anywhere in it."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        with self.open(path) as stream:
            return stream.read()

    def piece(self, path: str, start: int, stop: int) -> bytes:
        """Return the bytes of a file from a place to another one, both within it."""
        with self.open(path) as stream:
            stream.seek(start)
            return stream.read(stop - start)

    def download(self, path: str, target: Path) -> None:
        """Copy a file to this machine."""
        with self.open(path) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, BUFFER)

    @abstractmethod
    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Write a file, whole, unless there is one."""

    @abstractmethod
    def upload(self, source: Path, path: str) -> None:
        """Copy a file of this machine, whole."""

    @contextlib.contextmanager
    def placing(self, path: str) -> Iterator[Path]:
        """Give a path of this machine to write a file at; it is in the store, whole, when the body has ended well."""
        with tempfile.TemporaryDirectory(prefix="crossweave-") as folder:
            draft = Path(folder) / path.rpartition("/")[2]
            yield draft
            self.upload(draft, path)

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it."""


class Ranged(io.RawIOBase):
    """A file that is read by ranges, from wherever it was sought to; who inherits reads at `_at`."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the place that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, never one before the file's start."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at


def is_of_this_machine(error: Exception) -> bool:
    """Say whether an error is of the file that a copy comes from or goes to: no store names files so."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, OSError) and (full or (error.errno is not None and error.filename is not None))


def first_line(error: Exception) -> str:
    return str(error).replace("\\n", "\n").partition("\n")[0]
