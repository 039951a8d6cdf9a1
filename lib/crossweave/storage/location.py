"""A place in a store, and the few verbs that every store honours.

Stores: the file systems that this machine has mounted, object stores (`s3`, `gs`, `abfs`) and HDFS. None of the verbs
shows a half-written file: what is put is there whole or not at all, in every store.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crossweave.errors import SettingsError
from crossweave.storage.hadoop import name_node
from crossweave.storage.opening import open_store
from crossweave.storage.stores import Entry, Store

SCHEMES = {
    "file": "file",
    "s3": "s3",
    "s3a": "s3",
    "s3n": "s3",
    "gs": "gs",
    "gcs": "gs",
    "abfs": "abfs",
    "abfss": "abfs",
    "hdfs": "hdfs",
}
"""What users write → the store."""
MISSING = {"s3": "bucket", "gs": "bucket", "abfs": "container of an account", "hdfs": "host"}
EXPECTED = {"s3": "BUCKET", "gs": "BUCKET", "abfs": "CONTAINER@ACCOUNT.dfs.core.windows.net", "hdfs": "HOST:PORT"}
FOR_THE_JVM = {"s3": "s3a", "abfs": "abfss"}
AT_ONCE = 16  # requests to a store
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_URL = re.compile(r"^([a-z][a-z0-9+.-]+):(/{0,2})(.*)$", re.IGNORECASE | re.DOTALL)  # one letter is no store
_ACCOUNT = re.compile(r"^[^@]+@[^@.]+\..+$")


@dataclass(frozen=True, order=True)
class Location:
    """A file or folder of a store: `host` is its bucket, container or name node, `path` is absolute."""

    scheme: str
    host: str
    path: str

    @classmethod
    def of(cls, given: str | os.PathLike[str] | Location) -> Location:
        """Read what a user writes: a URL, or a path, relative to the working folder, with links followed.

        Raises SettingsError for a store that there is not, and a URL that names no bucket.
        """
        if isinstance(given, Location):
            return given
        text = os.fspath(given)
        found = _URL.match(text)
        if found is None or (found[1].lower() not in SCHEMES and not found[2]):
            return cls("file", "", str(Path(text).resolve()))
        scheme, slashes, rest = found[1].lower(), found[2], found[3]
        if scheme not in SCHEMES:
            raise SettingsError(
                f"{text} lies in a store that crossweave does not know", f"it knows {', '.join(sorted(SCHEMES))}"
            )
        store, (host, _, path) = SCHEMES[scheme], rest.partition("/")
        if store == "file":
            if not slashes or (slashes == "//" and host not in ("", "localhost")):
                raise SettingsError(f"{text} names no file of this machine", "write file:///PATH")
            return cls("file", "", str(Path("/" + (path if slashes == "//" else rest)).resolve()))
        if store == "hdfs" and slashes == "//":
            host = name_node(host) or ""
        if slashes != "//" or not _is_host(store, host):
            shown = f"{found[1]}:{slashes}…" if "@" in rest else text  # before an @ there may stand a secret
            raise SettingsError(f"{shown} names no {MISSING[store]}", f"write {scheme}://{EXPECTED[store]}/PATH")
        return cls(store, host, posixpath.normpath("/" + path.lstrip("/")))

    def __truediv__(self, name: str) -> Location:
        return Location(self.scheme, self.host, posixpath.normpath(posixpath.join(self.path, name)))

    def __str__(self) -> str:
        return self.path if self.is_local else f"{self.scheme}://{self.host}{self.path}"

    def __fspath__(self) -> str:
        return str(self.local)

    @property
    def is_local(self) -> bool:
        """Whether it lies on a file system that this machine has mounted."""
        return self.scheme == "file"

    @property
    def local(self) -> Path:
        """Return it as a path; raises ValueError for what lies elsewhere."""
        if not self.is_local:
            raise ValueError(f"{self} lies on no file system of this machine")
        return Path(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> Location:
        """The folder that it lies in."""
        return Location(self.scheme, self.host, posixpath.dirname(self.path))

    def holds(self, other: Location) -> bool:
        """Say whether another place is this one or lies below it."""
        return (self.scheme, self.host) == (other.scheme, other.host) and (
            self.path in (other.path, "/") or other.path.startswith(self.path + "/")
        )

    def below(self, folder: Location) -> str:
        """Return the path from a folder that holds this place."""
        if not folder.holds(self):
            raise ValueError(f"{self} does not lie below {folder}")
        return posixpath.relpath(self.path, folder.path)

    @property
    def for_spark(self) -> str:
        """As Spark's writers and Hadoop take it: with a scheme, whatever their default file system is."""
        scheme = FOR_THE_JVM.get(self.scheme, self.scheme)
        return f"file:{self.path}" if self.is_local else f"{scheme}://{self.host}{self.path}"

    @property
    def url(self) -> str:
        """As a URL, nothing of it encoded: Petastorm, which parses it, decodes nothing."""
        return f"{self.scheme}://{self.host}{self.path}"

    @property
    def store(self) -> Store:
        """The store that it lies in, with the credentials of the environment."""
        return open_store(self.scheme, self.host)

    # What can be asked ---------------------------------------------------------------------------------------

    def entry(self) -> Entry | None:
        """Return what a file is like; None where there is no such file."""
        return self.store.entry(self.path)

    def is_file(self) -> bool:
        """Say whether there is such a file."""
        return self.entry() is not None

    def is_folder(self) -> bool:
        """Say whether it is a folder; in an object store, whether anything lies below it."""
        return self.store.is_folder(self.path)

    def exists(self) -> bool:
        """Say whether there is such a file or folder."""
        return self.is_file() or self.is_folder()

    def children(self) -> list[Location]:
        """Return what lies directly in a folder, by name; nothing where there is no folder."""
        return [self / name for name in sorted(self.store.names(self.path))]

    def walk(self) -> Iterator[tuple[Location, Entry]]:
        """Yield every file below a folder, by path, with what it is like."""
        for path, entry in sorted(self.store.walk(self.path), key=lambda found: found[0]):
            yield Location(self.scheme, self.host, path), entry

    # What is read --------------------------------------------------------------------------------------------

    def read(self) -> bytes:
        """Return the bytes of a file; raises FileNotFoundError where there is none."""
        return self.store.read(self.path)

    def text(self) -> str:
        """Return the text of a file, UTF-8; raises FileNotFoundError where there is none."""
        return self.read().decode("utf-8")

    def open(self) -> BinaryIO:
        """Open a file for reading, anywhere in it."""
        return self.store.open(self.path)

    def download(self, target: Path) -> None:
        """Copy a file to this machine."""
        self.store.download(self.path, target)

    # What is written -----------------------------------------------------------------------------------------

    def put(self, data: bytes | str) -> None:
        """Write a file whole: readers see the one before or this one, also after a crash."""
        self.store.put(self.path, data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)

    def create(self, data: bytes | str) -> bool:
        """Write a file whole where there is none; False, and nothing is changed, where there is one."""
        return self.store.create(self.path, data.encode() if isinstance(data, str) else data)

    def upload(self, source: Path) -> None:
        """Copy a file of this machine here, whole."""
        self.store.upload(source, self.path)

    def upload_folder(self, source: Path) -> None:
        """Copy all files of a folder of this machine below this place, each whole."""
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            (self / path.relative_to(source).as_posix()).upload(path)

    def placing(self) -> AbstractContextManager[Path]:
        """Give a path of this machine to write a file at; it is here, whole, when the body has ended well."""
        return self.store.placing(self.path)

    def make_folder(self) -> None:
        """Make a folder with all above it, where the store has such things."""
        if self.is_local:
            self.local.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove a file, or a folder with all that is in it; what is gone already is fine."""
        self.store.remove(self.path)


def entries(places: Sequence[Location]) -> list[Entry | None]:
    """Return what each of many files is like; None for those that are not there."""
    if all(place.is_local for place in places):
        return [place.entry() for place in places]
    stores = {(place.scheme, place.host): place.store for place in places}  # fsspec makes a client anew a thread
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda place: stores[place.scheme, place.host].entry(place.path), places))


def is_url(given: str) -> bool:
    """Say whether what a user writes is a URL: all else is a path of this machine, be it one with a colon."""
    return _SCHEME.match(given) is not None


def _is_host(store: str, host: str) -> bool:
    """Say whether that can be the name of a bucket, container or name node; no secrets are taken in it."""
    if store == "abfs":
        return _ACCOUNT.match(host) is not None
    return bool(host) and (store == "hdfs" or not {"@", ":"} & set(host))
