"""Java exceptions as the driver sees them: class names, error classes and causes in place of their texts."""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from crossweave.errors import CrossweaveError, InputContractError, TableError
from crossweave.storage.location import Location, is_url
from crossweave.tables.damage import MEND

UNFIT = re.compile(r"CAST_|DIVIDE_BY_ZERO|(BINARY_)?ARITHMETIC_OVERFLOW|NUMERIC_|INVALID_ARRAY_INDEX|CANNOT_PARSE_")
"""Error classes of Spark for a value that an expression cannot take."""
PLACE_OF = {
    "_LEGACY_ERROR_TEMP_2064": "path",  # "Encountered error while reading file"
    "_LEGACY_ERROR_TEMP_2063": "filePath",  # a column of another type than asked for
    "_LEGACY_ERROR_TEMP_2055": "message",  # "File … does not exist"
    "CANNOT_READ_FILE_FOOTER": "file",
    "PATH_NOT_FOUND": "path",
}
"""Error classes of Spark for a file that it cannot read -> the parameter that names it."""
OF_THE_SYSTEM = {
    "java.nio.file.AccessDeniedException": errno.EACCES,
    "org.apache.hadoop.security.AccessControlException": errno.EACCES,
    "java.nio.file.NotDirectoryException": errno.ENOTDIR,
    "org.apache.hadoop.fs.ParentNotDirectoryException": errno.ENOTDIR,
    "java.nio.file.FileAlreadyExistsException": errno.EEXIST,
    "org.apache.hadoop.fs.FileAlreadyExistsException": errno.EEXIST,
    "java.nio.file.ReadOnlyFileSystemException": errno.EROFS,
    "java.net.BindException": errno.EADDRINUSE,
    "java.net.ConnectException": errno.ECONNREFUSED,
    "java.net.NoRouteToHostException": errno.EHOSTUNREACH,
}
"""Java's classes for what the system refuses."""
NAMED = {os.strerror(number): number for number in (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM,
    errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG, errno.ELOOP,
)}  # fmt: skip
"""The system's own words for its error numbers, with which the messages of java.io end."""
LOST_EXECUTOR = re.compile(
    r"most recent failure(?: reason)?:\s+(?:Lost task \S+ in stage \S+ \(.*?\): )?"
    r"(?:ExecutorLostFailure|FetchFailed|org\.apache\.spark\.shuffle\.\w*FetchFailedException)\b",
    re.IGNORECASE,
)
NO_MKDIR = re.compile(r"Mkdirs failed to create (?:file:)?(/.*?)(?: \(exists=|$)")
CHECKSUM = re.compile(r"^Checksum error: (.*) at \d+ exp: ")
NO_PARQUET = re.compile(r"^((?:[a-z][a-z0-9]*:)?/.*?) is not a Parquet file")
MOST_CAUSES = 20


@dataclass(frozen=True)
class Throwable:
    """One Java exception of a chain."""

    name: str  # its class
    message: str
    frames: list[str] = field(default_factory=list)  # classes of the innermost calls
    error_class: str = ""
    parameters: dict[str, str] = field(default_factory=dict)

    def is_of(self, name: str) -> bool:
        """Say whether its class, without the package, ends with this name."""
        return self.name.rpartition(".")[2].endswith(name)

    @property
    def number(self) -> int | None:
        """The system's error number, where the system refused something."""
        if self.name in OF_THE_SYSTEM:
            return OF_THE_SYSTEM[self.name]
        if not self.name.startswith(("java.io.", "java.nio.", "java.net.", "org.apache.hadoop.fs.")):
            return None
        for words, number in NAMED.items():
            if self.message.endswith((words, f"({words})")):
                return number
        folder = NO_MKDIR.search(self.message)
        return _why_no_folder(Path(folder.group(1))) if folder is not None else None

    @property
    def unfit(self) -> bool:
        """Whether a value did not fit an expression."""
        return UNFIT.match(self.error_class) is not None

    @property
    def file(self) -> str | None:
        """The file that could not be read; empty where it is not named; None where it is about no file."""
        if self.error_class in PLACE_OF:
            given = self.parameters.get(PLACE_OF[self.error_class], "")
            place = given.removeprefix("File ").removesuffix(" does not exist")
            return _plain(unquote(place) if self.error_class == "_LEGACY_ERROR_TEMP_2064" else place)
        if self.is_of("ChecksumException"):
            found = CHECKSUM.search(self.message)
            return _plain(found.group(1)) if found else ""
        if any(frame.startswith("org.apache.parquet.") for frame in self.frames[:1]):
            found = NO_PARQUET.search(self.message)
            return _plain(found.group(1)) if found else ""
        return None

    @property
    def lost_worker(self) -> bool:
        """Whether a Python worker or an executor ended before its work did."""
        ended = self.is_of("EOFException") or self.is_of("SocketException")
        of_python = any(frame.startswith("org.apache.spark.") and ".python." in frame for frame in self.frames)
        return (ended and of_python) or (self.is_of("SparkException") and bool(LOST_EXECUTOR.search(self.message)))

    @property
    def lost_jvm(self) -> bool:
        """Whether Spark itself was stopped under the work."""
        stopped = any(frame == "org.apache.spark.SparkContext" for frame in self.frames[:1])
        shut = any(frame.startswith("org.apache.spark.scheduler.DAGScheduler") for frame in self.frames[:1])
        return (stopped and self.is_of("IllegalStateException")) or (
            shut and self.is_of("SparkException") and "SparkContext was shut down" in self.message
        )

    def damage(self) -> CrossweaveError:
        """Return the named error for the file that could not be read."""
        mend = "write the file again"
        if self.error_class in ("PATH_NOT_FOUND", "_LEGACY_ERROR_TEMP_2055"):
            what = f"{self.file} is gone"
        elif self.error_class == "_LEGACY_ERROR_TEMP_2063":
            what = f"{self.file} holds a column of another type than it had"
        elif self.is_of("ChecksumException"):
            what = f"{self.file or 'a data file'} is not what Hadoop's checksum file beside it (.NAME.crc) says"
            mend = "if the file was written after it, remove the .crc file; else write the file again"
        else:
            what = f"{self.file or 'a data file'} is damaged: Spark cannot read its pages"
        if self.file and _is_of_table(Location.of(self.file)):
            return TableError(what, MEND)
        return InputContractError(what, mend)


def throwables(error: BaseException) -> list[Throwable]:
    """Return the Java exception behind a Python one, and its causes; empty where there is none, or no JVM to ask."""
    origin = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    found: list[Throwable] = []
    try:
        while origin is not None and len(found) < MOST_CAUSES:
            found.append(_told(origin))
            origin = origin.getCause()
    except Exception:  # py4j raises what it likes where the JVM has ended meanwhile
        return found
    return found


def _told(origin: Any) -> Throwable:
    from py4j.java_gateway import is_instance_of
    from pyspark import SparkContext

    coded = is_instance_of(SparkContext._gateway, origin, "org.apache.spark.SparkThrowable")
    return Throwable(
        name=str(origin.getClass().getName()),
        message=str(origin.getMessage() or ""),
        frames=[str(frame.getClassName()) for frame in list(origin.getStackTrace())[:12]],
        error_class=str(origin.getErrorClass() or "") if coded else "",
        parameters={str(k): str(v) for k, v in dict(origin.getMessageParameters()).items()} if coded else {},
    )


def gateway_is_gone() -> bool:
    """Say whether there was a JVM and it answers no more."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if gateway is None:
        return False
    process = getattr(gateway, "proc", None)
    if process is not None and process.poll() is not None:
        return True
    known = getattr(gateway, "java_parameters", None) or gateway.gateway_parameters
    try:
        socket.create_connection((known.address, known.port), timeout=2.0).close()
    except OSError:
        return True
    return False


def _why_no_folder(folder: Path) -> int | None:
    """Ask the system why a folder cannot be made: Hadoop does not pass it on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.errno
    return None


def _is_of_table(place: Location) -> bool:
    with suppress(CrossweaveError, OSError):  # a store that is gone cannot be asked
        while place.parent != place:
            place = place.parent
            if (place / "_delta_log").is_folder():
                return True
    return False


def _plain(place: str) -> str:
    """Return a place as users write it: Spark's URLs of files are paths, those of other stores have our scheme."""
    if is_url(place) and not place.startswith("file:"):
        with suppress(CrossweaveError):
            return str(Location.of(place))
        return place
    return "/" + re.sub(r"^file:/+", "", place).lstrip("/") if place else ""
