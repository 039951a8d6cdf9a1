"""The kinds of stores, each with the same few verbs: mounted file systems, object stores and HDFS."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import shutil
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from crossweave.errors import SettingsError, TryAgainError
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
        draft = _draft_of(path)
        _write(draft, data)
        draft.replace(path)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file, whole, unless there is one."""
        draft = _draft_of(path)
        _write(draft, data)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def upload(self, source: Path, path: str) -> None:
        """Copy a file, whole."""
        draft = _draft_of(path)
        shutil.copyfile(source, draft)
        draft.replace(path)

    @contextlib.contextmanager
    def placing(self, path: str) -> Iterator[Path]:
        """Give a path beside the file's place, which then takes it, when the disk has it."""
        draft = _draft_of(path)
        try:
            yield draft
            with draft.open("rb+") as stream:
                os.fsync(stream.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it."""
        if Path(path).is_dir() and not Path(path).is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)


def _entry_of(found: os.stat_result) -> Entry:
    when = datetime.datetime.fromtimestamp(found.st_mtime, datetime.UTC)
    return Entry(found.st_size, when, f"{found.st_size}-{found.st_mtime_ns}")


def _draft_of(path: str) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return temporary(target)


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
        if scheme == "s3" and os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:"):
            self.options_of_delta = {"AWS_ALLOW_HTTP": "true"}
        with self._speaking():
            self._files: Any = fsspec.filesystem(scheme, use_listings_cache=False, **_options(scheme, host))
        self.for_pyarrow = self._files

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
        below = [name.rstrip("/") for name in found if name.rstrip("/") != (self.root + path).rstrip("/")]
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

    def piece(self, path: str, start: int, stop: int) -> bytes:
        """Return some of an object's bytes, in one request."""
        with self._speaking():
            return bytes(self._files.cat_file(self.root + path, start=start, end=stop))

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
        try:
            with self._speaking(writing=True):
                self._files.pipe_file(self.root + path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def upload(self, source: Path, path: str) -> None:
        """Copy a file of this machine; large ones in parts, which appear together."""
        with self._speaking(writing=True):
            self._files.put_file(str(source), self.root + path)

    def remove(self, path: str) -> None:
        """Remove an object and all below its name."""
        with contextlib.suppress(FileNotFoundError), self._speaking():
            self._files.rm(self.root + path, recursive=True)

    @contextlib.contextmanager
    def _speaking(self, writing: bool = False) -> Iterator[None]:
        """Give what a store's client raises the name of what can be done about it."""
        try:
            yield
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            if writing:
                raise SettingsError(f"{self.url} does not exist", "make the bucket, or name another") from error
            raise
        except PermissionError as error:
            raise SettingsError(f"{self.url} refuses: {error}", CREDENTIALS) from error
        except ImportError:
            raise
        except Exception as error:
            module, said = type(error).__module__.partition(".")[0], f"{type(error).__name__}: {error}"
            if "Credential" in type(error).__name__:
                raise SettingsError(f"{self.url}: there are no credentials ({said})", CREDENTIALS) from error
            if module in LIBRARIES or isinstance(error, OSError | TimeoutError):
                raise TryAgainError(
                    f"{self.url} does not answer as it should: {said}",
                    "run the same command again; if it stays, ask ./submit.sh doctor",
                ) from error
            raise


CREDENTIALS = "export the store's credentials, or give the machine a role that may read and write there"
LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "azure", "google", "asyncio", "fsspec")


def _options(scheme: str, host: str) -> dict[str, Any]:
    if scheme == "s3" and os.environ.get("AWS_ENDPOINT_URL"):
        return {"config_kwargs": {"s3": {"addressing_style": "path"}}}  # who is not Amazon seldom has names for buckets
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
        from hdfs_native import Client

        self.url = f"hdfs://{host}"
        self._client: Any = Client(self.url)
        self._host = host

    @property
    def for_pyarrow(self) -> Any:
        """The store as pyarrow's file systems are asked."""
        from hdfs_native.fsspec import HdfsFileSystem

        host, _, port = self._host.partition(":")
        return HdfsFileSystem(host, int(port) if port else None)

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
            return cast(BinaryIO, io.BufferedReader(self._client.read(path), BUFFER))

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
            self._client.mkdirs(folder or "/", 0o755, True)
            with self._client.create(draft, WriteOptions(overwrite=True)) as stream:
                write(stream)
            try:
                self._client.rename(draft, path, overwrite)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._client.delete(draft, False)
                raise

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it."""
        with contextlib.suppress(FileNotFoundError), self._speaking():
            self._client.delete(path, True)

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Give what the client raises the name of what can be done about it."""
        try:
            yield
        except (FileExistsError, FileNotFoundError):
            raise
        except PermissionError as error:
            raise SettingsError(f"{self.url} refuses: {error}", "give the user who runs the job the rights") from error
        except Exception as error:
            if type(error).__module__.startswith(("hdfs_native", "builtins")) and not isinstance(error, TypeError):
                raise TryAgainError(
                    f"{self.url} does not answer as it should: {type(error).__name__}: {error}",
                    "run the same command again; if it stays, ask ./submit.sh doctor",
                ) from error
            raise


def _entry_of_status(status: Any) -> Entry:
    when = datetime.datetime.fromtimestamp(status.modification_time / 1000, datetime.UTC)
    return Entry(status.length, when, f"{status.length}-{status.modification_time}")
