"""Object stores: S3, Google Cloud Storage and Azure's, through fsspec."""

from __future__ import annotations

import contextlib
import datetime
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from crossweave.errors import SettingsError, TryAgainError
from crossweave.storage.stores import AGAIN, Entry, Store, first_line, is_of_this_machine


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
        """Say whether anything lies below a path, without listing it where no object has its very name."""
        try:
            with self._speaking():
                found = self._files.info((self.root + path).rstrip("/"))
        except FileNotFoundError:
            return False
        return found["type"] == "directory" or bool(self.names(path))

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
            code, said = _code_of(error), f"{type(error).__name__}: {first_line(error)}"
            if is_of_this_machine(error):
                raise
            if code in ("PreconditionFailed", "412"):
                raise FileExistsError(said) from error
            if isinstance(error, FileNotFoundError):
                if not self._is_there():
                    raise SettingsError(f"{self.url} does not exist", "make the bucket, or name another") from error
                if not writing:
                    raise
            if isinstance(error, PermissionError):
                raise SettingsError(f"{self.url} refuses: {first_line(error)}", CREDENTIALS) from error
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
CREDENTIALS = "export the store's credentials, or give the machine a role that may read and write there"
LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "azure", "google", "asyncio", "fsspec")


def _code_of(error: Exception) -> str:
    """Return what an S3 calls an error, where it is its."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


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
