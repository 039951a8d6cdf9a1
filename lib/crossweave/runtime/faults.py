"""What a failure is: the named error for whatever the caller or another try can mend, told by type and number.

Words decide only where there is nothing else: the last line of a worker's traceback, which Spark passes on as text, and
the system's own name of an error number, which the JVM and Rust put behind theirs.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossweave import errors
from crossweave.errors import CrossweaveError, InputContractError, SettingsError, TableError, TryAgainError
from crossweave.runtime.jvm import Throwable, gateway_is_gone, throwables
from crossweave.tables.damage import DAMAGED, MEND

AGAIN = "run the same command again: committed work is kept and the rest is redone"


@dataclass(frozen=True)
class Fault:
    """One kind of failure of the system."""

    kind: type[CrossweaveError]
    what: str
    hint: str


FULL = Fault(TryAgainError, "the disk is full; nothing was committed", "free some space and run the same command again")
QUOTA = Fault(TryAgainError, "the disk quota is used up; nothing was committed", f"{FULL.hint}, or raise the quota")
READ_ONLY = Fault(TryAgainError, "the file system is read-only", "mount it for writing and run the same command again")
HANDLES = Fault(
    TryAgainError,
    "there are too few file handles",
    "raise the limit (ulimit -n 65536) and run the same command again",
)
MEMORY = Fault(
    TryAgainError,
    "there is too little memory",
    "give the job more (spark.driver.memory, the container's limit), or run it when the machine does less",
)
PROCESSES = Fault(TryAgainError, "no more processes or threads can be started", "raise the limit (ulimit -u)")
PORTS = Fault(TryAgainError, "no network port is free", "end what holds them and run the same command again")
RIGHTS = Fault(SettingsError, "the rights to a file or folder are missing", "give them to the user who runs the job")
NO_FOLDER = Fault(SettingsError, "a file is where a folder should be", "move the file away, or name another folder")
NO_FILE = Fault(SettingsError, "a folder is where a file should be", "move the folder away, or name another file")
NAME = Fault(SettingsError, "a path is too long or leads round in a circle", "name another folder")
DEVICE = Fault(TryAgainError, "a disk or a network share does not answer as it should", AGAIN)
CONNECTION = Fault(TryAgainError, "a connection was lost or refused", AGAIN)
JVM = Fault(TryAgainError, "Spark's JVM was lost", f"{AGAIN}; was it killed for its memory? see spark.driver.memory")
NO_JVM = Fault(
    SettingsError,
    "Spark could not be started",
    "the lines above say why; check --spark-conf, JAVA_HOME and HADOOP_CONF_DIR",
)
WORKER = Fault(TryAgainError, "a worker or executor was lost", f"{AGAIN}; was it killed for its memory?")

BY_NUMBER = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: QUOTA,
    errno.EROFS: READ_ONLY,
    errno.EMFILE: HANDLES,
    errno.ENFILE: HANDLES,
    errno.ENOMEM: MEMORY,
    errno.EAGAIN: PROCESSES,
    errno.EADDRINUSE: PORTS,
    errno.EADDRNOTAVAIL: PORTS,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.ENOTDIR: NO_FOLDER,
    errno.EEXIST: NO_FOLDER,
    errno.EISDIR: NO_FILE,
    errno.ELOOP: NAME,
    errno.ENAMETOOLONG: NAME,
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.EREMOTEIO), DEVICE),
    **dict.fromkeys(
        (errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENOTCONN), CONNECTION
    ),
    **dict.fromkeys((errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH), CONNECTION),
}
"""Error number of the system -> what it means to who runs a job."""

LAST_LINE = re.compile(r"^((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?:: (.*))?$")
NUMBERED = re.compile(r"^\[Errno (\d+)\] (.*)$")
OF_RUST = re.compile(r"\(os error (\d+)\)")
OF_TORCH = re.compile(r"DefaultCPUAllocator: .*Error code 12\b")
OF_NUMPY = re.compile(r"^\d+ requested and \d+ written$")
"""What `ndarray.tofile` says where a write fell short; it keeps the number to itself."""


def translate(error: BaseException) -> CrossweaveError | None:
    """Return the named error for a failure that is no bug; None for everything else."""
    for one in _chain(error):
        named = _named(one)
        if named is not None:
            return named
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _named(error: BaseException) -> CrossweaveError | None:
    if isinstance(error, CrossweaveError):
        return error
    named = _of_java(throwables(error))
    if named is not None:
        return named
    if type(error).__name__ == "PythonException" and type(error).__module__.startswith("pyspark."):
        return of_worker(str(getattr(error, "desc", error)))
    if type(error).__module__.startswith("py4j.") and gateway_is_gone():
        return _of(JVM)
    if "JAVA_GATEWAY_EXITED" in str(error) and type(error).__module__.startswith("pyspark."):
        return _of(NO_JVM)
    if isinstance(error, ConnectionError | EOFError) and gateway_is_gone():
        return _of(JVM)
    if isinstance(error, FileExistsError) and Path(str(error.filename)).is_dir():
        return None  # a folder that was to be new: nobody else's doing
    if isinstance(error, OSError) and error.errno is not None:
        return _of(BY_NUMBER.get(error.errno), error.filename)
    return _by_name(type(error).__name__, str(error))


def _by_name(name: str, said: str) -> CrossweaveError | None:
    """Judge an error by its type's name and what it says, which is all that is left of a worker's."""
    if name in ("MemoryError", "_ArrayMemoryError", "ArrowMemoryError", "OutOfMemoryError") or OF_TORCH.search(said):
        return _of(MEMORY)
    rust = OF_RUST.search(said)
    if rust is not None:
        return _of(BY_NUMBER.get(int(rust.group(1))))
    if name == "OSError" and OF_NUMPY.match(said):
        return _of(FULL)
    return None


def of_worker(traceback: str) -> CrossweaveError | None:
    """Judge the traceback of a Python worker by the lines that name its exceptions, the last one first."""
    for line in reversed(traceback.splitlines()):
        found = LAST_LINE.match(line)
        if found is None:
            continue
        module, _, name = found.group(1).rpartition(".")
        said = found.group(2) or ""
        kind = getattr(errors, name, None) if module == errors.__name__ else None
        if isinstance(kind, type) and issubclass(kind, CrossweaveError):
            return kind(said)
        numbered = NUMBERED.match(said)
        if numbered is not None:
            return _of(BY_NUMBER.get(int(numbered.group(1))), numbered.group(2))
        named = _by_name(name, said)
        if named is not None:
            return named
    return None


def _of_java(found: list[Throwable]) -> CrossweaveError | None:
    """Judge a Java exception and its causes: what the system refused first, since Spark wraps it as it wraps damage."""
    for one in found:
        if one.number is not None and one.number in BY_NUMBER:
            return _of(BY_NUMBER[one.number], one.message)
        if one.is_of("OutOfMemoryError"):
            return _of(MEMORY, one.message)
        if one.is_of("PythonException"):
            return of_worker(one.message)
        if one.is_of("RuntimeException") and DAMAGED in one.message:
            return TableError(one.message.partition(DAMAGED)[2].splitlines()[0], MEND)
    for one in found:
        if one.unfit:
            return InputContractError(
                f"a value of the input does not fit its expression: {one.message.splitlines()[0]}",
                "mend the value, or let the expression give null there (try_cast, try_divide, nullif)",
            )
        if one.file is not None:
            return one.damage()
        if one.lost_jvm:
            return _of(JVM, one.message)
        if one.lost_worker:
            return _of(WORKER)
    return None


def _of(fault: Fault | None, about: object = None) -> CrossweaveError | None:
    if fault is None:
        return None
    told = str(about).strip().splitlines()[0][:300] if about is not None and str(about).strip() else ""
    return fault.kind(f"{fault.what}: {told}" if told else fault.what, fault.hint)
