"""HDFS, without a JVM."""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from crossweave.errors import CrossweaveError, SettingsError, TryAgainError
from crossweave.storage.hadoop import conf_folder
from crossweave.storage.names import temporary_name
from crossweave.storage.stores import AGAIN, BUFFER, Entry, Ranged, Store, first_line, is_of_this_machine


class Hdfs(Store):
    """HDFS without a JVM: a file is written under another name, and then renamed."""

    def __init__(self, host: str) -> None:
        self.url = f"hdfs://{host}"
        with self._speaking():
            self._client: Any = _hdfs_client(self.url, conf_folder(), os.getpid())
        self._host = host

    @property
    def for_pyarrow(self) -> Any:
        """The store as pyarrow's file systems are asked: the client's own, but for its files, which cannot tell."""
        from hdfs_native.fsspec import HdfsFileSystem

        class Files(HdfsFileSystem):
            def _open(self, path: str, mode: Any = "rb", *_: Any, **options: Any) -> Any:
                opened = super()._open(path, mode, **options)
                return _buffered(opened) if mode == "rb" else io.BufferedWriter(_Writer(opened), BUFFER)

        host, _, port = self._host.partition(":")
        return Files(host, int(port) if port else None)

    def entry(self, path: str) -> Entry | None:
        """Return what a file is like; None where there is none."""
        found = self._status(path)
        return None if found is None or found.isdir else _entry_of_status(found)

    def is_folder(self, path: str) -> bool:
        """Say whether a folder is there."""
        found = self._status(path)
        return found is not None and found.isdir

    def _status(self, path: str) -> Any:
        try:
            with self._speaking():
                return self._client.get_file_info(path)
        except FileNotFoundError:
            return None

    def names(self, path: str) -> list[str]:
        """Name what lies directly in a folder."""
        if not self.is_folder(path):
            return []
        with self._speaking():
            return [status.path.rpartition("/")[2] for status in self._client.list_status(path, False)]

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield all files below a folder."""
        if not self.is_folder(path):
            return
        with self._speaking():
            found = list(self._client.list_status(path, True))
        yield from ((status.path, _entry_of_status(status)) for status in found if not status.isdir)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        with self._speaking():
            return _buffered(self._client.read(path))

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        with self._speaking():
            return super().read(path)

    def download(self, path: str, target: Path) -> None:
        """Copy a file to this machine."""
        with self._speaking():
            super().download(path, target)

    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole."""
        self._put(path, lambda stream: stream.write(data), overwrite=True)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file, whole, unless there is one."""
        try:
            self._put(path, lambda stream: stream.write(data), overwrite=False)
        except FileExistsError:
            return False
        return True

    def upload(self, source: Path, path: str) -> None:
        """Copy a file of this machine, whole."""
        with source.open("rb") as stream:
            self._put(path, lambda target: shutil.copyfileobj(stream, target, BUFFER), overwrite=True)

    def _put(self, path: str, write: Any, overwrite: bool) -> None:
        from hdfs_native import WriteOptions

        folder, _, name = path.rpartition("/")
        draft = f"{folder}/{temporary_name(name)}"
        with self._speaking():
            try:
                self._client.mkdirs(folder or "/", 0o755, True)
            except FileExistsError as error:
                raise SettingsError(f"{self.url}{folder} is a file", "remove it, or name another folder") from error
            try:
                with self._client.create(draft, WriteOptions(overwrite=True)) as stream:
                    write(stream)
                self._client.rename(draft, path, overwrite)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._client.delete(draft, False)
                raise

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it."""
        if path == "/":
            for name in self.names(path):
                self.remove(path + name)
            return
        with contextlib.suppress(FileNotFoundError), self._speaking():
            self._client.delete(path, True)

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Give what the client raises the name of what can be done about it."""
        try:
            yield
        except (FileExistsError, FileNotFoundError, CrossweaveError, ImportError, TypeError):
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            if is_of_this_machine(error):
                raise
            if isinstance(error, PermissionError) or "AccessControlException" in said:
                raise SettingsError(
                    f"{self.url} refuses: {said}", "give the user who runs the job the rights"
                ) from error
            if any(name in said for name in NO_SUCH_NAME):
                raise SettingsError(f"{self.url} has no such place for a file: {said}", "name another") from error
            if type(error).__module__.startswith(("hdfs_native", "builtins", "socket")):
                raise TryAgainError(f"{self.url} does not answer as it should: {said}", AGAIN) from error
            raise


NO_SUCH_NAME = ("InvalidPathException", "ParentNotDirectoryException", "must both be directories")


@functools.lru_cache(maxsize=16)
def _hdfs_client(url: str, conf: str, process: int) -> Any:
    """Return the client of a process: `conf` is where it looks, and a child has none of its parent's threads."""
    from hdfs_native import Client

    host, _, port = url.removeprefix("hdfs://").partition(":")
    if port:  # the client itself would try for minutes
        socket.create_connection((host, int(port)), timeout=5).close()
    return Client(url)


class _Reader(Ranged):
    """A file of HDFS as Python reads files; the client's own lacks what a buffer asks for."""

    def __init__(self, file: Any) -> None:
        super().__init__(len(file))
        self._file = file

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        buffer[:length] = self._file.read_range(self._at, length)
        self._at += length
        return length


class _Writer(io.RawIOBase):
    """A file of HDFS as Python writes files; the client's own does not say how much it has taken."""

    def __init__(self, file: Any) -> None:
        self._file, self._at = file, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        taken: int = self._file.write(data)
        self._at += taken
        return taken

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


def _buffered(file: Any) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Reader(file), BUFFER))


def _entry_of_status(status: Any) -> Entry:
    when = datetime.datetime.fromtimestamp(status.modification_time / 1000, datetime.UTC)
    return Entry(status.length, when, f"{status.length}-{status.modification_time}")
