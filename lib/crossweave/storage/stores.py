"""The kinds of stores, each with the same few verbs: mounted file systems, object stores and HDFS."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import glob
import io
import os
import shutil
import socket
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from crossweave.errors import CrossweaveError, SettingsError, TryAgainError
from crossweave.storage.names import temporary, temporary_name

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "hdfs": "hdfs-native"}
"""The package from PyPI that speaks to a store."""
BUFFER = 1 << 20  # bytes read ahead of HDFS


@dataclass(frozen=True)
class Entry:
    """A file as a listing shows it. One of the same tag is taken for the same file."""

    size: int  # bytes
    modified: datetime.datetime
    tag: str


class Store(ABC):
    """The verbs; paths are absolute within the store."""

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

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it."""


def open_store(scheme: str, host: str) -> Store:
    """Return a store, with the credentials of the environment; SettingsError where its package is not installed."""
    if scheme == "file":
        return Disk()
    try:
        return Hdfs(host) if scheme == "hdfs" else Bucket(scheme, host)
    except ImportError as error:
        raise SettingsError(
            f"{scheme}://{host} needs the package {PACKAGES[scheme]}", f"pip install {PACKAGES[scheme]}"
        ) from error


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


class Bucket(Store):
    """An object store through fsspec: a file appears in one request, and there are no folders."""

    def __init__(self, scheme: str, host: str) -> None:
        import fsspec

        self.url = f"{scheme}://{host}"
        self.root = host.partition("@")[0]
        with self._speaking():
            self._files: Any = fsspec.filesystem(scheme, use_listings_cache=False, **_options(scheme, host))
        if scheme == "s3":
            self._files.retries = 2  # on top of botocore's own

    def entry(self, path: str) -> Entry | None:
        """Return what an object is like; None where there is none."""
        try:
            with self._speaking():
                found = self._files.info(self.root + path)
        except FileNotFoundError:
            return None
        return _entry_of_object(found) if found["type"] == "file" else None

    def is_folder(self, path: str) -> bool:
        """Say whether anything lies below a path."""
        return bool(self.names(path))

    def names(self, path: str) -> list[str]:
        """Name what lies directly below a path."""
        try:
            with self._speaking():
                found = self._files.ls((self.root + path).rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        below = {name.rstrip("/") for name in found} - {(self.root + path).rstrip("/")}
        return [name.rpartition("/")[2] for name in below]

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield all objects below a path."""
        top = (self.root + path).rstrip("/") + "/"
        try:
            with self._speaking():
                found = self._files.find(top, detail=True)
        except FileNotFoundError:
            return
        for name, entry in found.items():
            # A JVM marks a folder by an empty object; an object of the very name is none below it.
            if entry["type"] == "file" and name.startswith(top) and not name.endswith("/"):
                yield name.removeprefix(self.root), _entry_of_object(entry)

    def open(self, path: str) -> BinaryIO:
        """Open an object for reading, by ranges."""
        with self._speaking():
            return cast(BinaryIO, self._files.open(self.root + path, "rb"))

    def read(self, path: str) -> bytes:
        """Return an object's bytes."""
        with self._speaking():
            return bytes(self._files.cat_file(self.root + path))

    def download(self, path: str, target: Path) -> None:
        """Copy an object to this machine."""
        with self._speaking():
            self._files.get_file(self.root + path, str(target))

    def put(self, path: str, data: bytes) -> None:
        """Write an object."""
        with self._speaking(writing=True):
            self._files.pipe_file(self.root + path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one."""
        for _ in range(TRIES):
            try:
                with self._speaking(writing=True):
                    self._files.pipe_file(self.root + path, data, mode="create")
                return True
            except FileExistsError:
                return False
            except TryAgainError as error:
                if AT_ONCE not in error.message:
                    raise
                time.sleep(0.2)  # another writer is about to create it, or to fail
        raise TryAgainError(f"{self.url}{path} is being written by others all the time", AGAIN)

    def upload(self, source: Path, path: str) -> None:
        """Copy a file of this machine; large ones in parts, which appear together."""
        with self._speaking(writing=True):
            self._files.put_file(str(source), self.root + path)

    def remove(self, path: str) -> None:
        """Remove an object and all below its name."""
        if path == "/":  # never the bucket itself
            for name in self.names(path):
                self.remove(path + name)
            return
        with contextlib.suppress(FileNotFoundError), self._speaking():
            self._files.rm(glob.escape(self.root + path), recursive=True)  # it alone takes names for patterns

    @contextlib.contextmanager
    def _speaking(self, writing: bool = False) -> Iterator[None]:
        """Give what a store's client raises the name of what can be done about it."""
        try:
            yield
        except (FileExistsError, ImportError):
            raise
        except Exception as error:
            code, said = _code_of(error), f"{type(error).__name__}: {_first_line(error)}"
            if _is_of_this_machine(error):
                raise
            if code in ("PreconditionFailed", "412"):
                raise FileExistsError(said) from error
            if isinstance(error, FileNotFoundError):
                if not self._is_there():
                    raise SettingsError(f"{self.url} does not exist", "make the bucket, or name another") from error
                if not writing:
                    raise
            if isinstance(error, PermissionError):
                raise SettingsError(f"{self.url} refuses: {_first_line(error)}", CREDENTIALS) from error
            if "Credential" in type(error).__name__:
                raise SettingsError(f"{self.url}: there are no credentials ({said})", CREDENTIALS) from error
            if type(error).__module__.partition(".")[0] in LIBRARIES or isinstance(error, OSError | TimeoutError):
                raise TryAgainError(f"{self.url} does not answer as it should: {code} {said}", AGAIN) from error
            raise

    def _is_there(self) -> bool:
        """Say whether the bucket is there; who may not ask, is told so by what he does next."""
        if self.url not in _FOUND:
            try:
                self._files.info(self.root)
            except FileNotFoundError:
                return False
            except Exception:
                return True
            _FOUND.add(self.url)
        return True


_FOUND: set[str] = set()
"""The buckets that this process has seen."""
TRIES = 5
AT_ONCE = "ConditionalRequestConflict"
"""What S3 says to one of two who create an object at the same moment."""
AGAIN = "run the same command again; if it stays, ask ./submit.sh doctor"
CREDENTIALS = "export the store's credentials, or give the machine a role that may read and write there"
LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "azure", "google", "asyncio", "fsspec")


def _code_of(error: Exception) -> str:
    """Return what an S3 calls an error, where it is its."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _is_of_this_machine(error: Exception) -> bool:
    """Say whether an error is of the file that a copy comes from or goes to: no store names files so."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, OSError) and (full or (error.errno is not None and error.filename is not None))


def _first_line(error: Exception) -> str:
    return str(error).replace("\\n", "\n").partition("\n")[0]


def _options(scheme: str, host: str) -> dict[str, Any]:
    if scheme == "s3":
        # Nobody there is known within some twenty seconds; who is not Amazon seldom has names for buckets.
        config: dict[str, Any] = {"connect_timeout": 3, "retries": {"total_max_attempts": 3, "mode": "standard"}}
        if os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3"):
            config["s3"] = {"addressing_style": "path"}
        return {"config_kwargs": config}
    if scheme == "abfs":
        return {"account_name": host.partition("@")[2].partition(".")[0], "anon": False}
    return {}


def _entry_of_object(found: dict[str, Any]) -> Entry:
    when: Any = found.get("LastModified") or found.get("mtime") or found.get("last_modified") or found.get("updated")
    if isinstance(when, str):
        when = datetime.datetime.fromisoformat(when)
    tag = found.get("ETag") or found.get("etag") or found.get("md5Hash") or f"{when}"
    return Entry(int(found["size"] or 0), when, f"{found['size']}-{str(tag).strip(chr(34))}")


class Hdfs(Store):
    """HDFS without a JVM: a file is written under another name, and then renamed."""

    def __init__(self, host: str) -> None:
        self.url = f"hdfs://{host}"
        with self._speaking():
            self._client: Any = _hdfs_client(self.url, os.environ.get("HADOOP_CONF_DIR", ""), os.getpid())

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
            return cast(BinaryIO, io.BufferedReader(_Reader(self._client.read(path)), BUFFER))

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
            said = f"{type(error).__name__}: {_first_line(error)}"
            if _is_of_this_machine(error):
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


class _Reader(io.RawIOBase):
    """A file of HDFS as Python reads files; the client's own lacks what a buffer asks for."""

    def __init__(self, file: Any) -> None:
        self._file, self._size, self._at = file, len(file), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        buffer[:length] = self._file.read_range(self._at, length)
        self._at += length
        return length


def _entry_of_status(status: Any) -> Entry:
    when = datetime.datetime.fromtimestamp(status.modification_time / 1000, datetime.UTC)
    return Entry(status.length, when, f"{status.length}-{status.modification_time}")
