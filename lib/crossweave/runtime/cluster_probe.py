"""What doctor has an executor find out. It travels there by value, since an executor may lack this package.

So it imports nothing of the house before it is asked to, and nothing it does may fail its task.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import platform
import socket
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata, resources
from typing import Any

CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Asked:
    """What every task is asked."""

    addresses: Sequence[tuple[str, int]]  # of the driver, where tasks meet
    patience: float  # seconds to wait for the others there
    packages: Sequence[str]
    mark: str  # a file that the driver has put into the workspace
    content: str  # of it


@dataclass
class Answer:
    """What a task found."""

    host: str
    python: str = ""  # the folder of its environment
    met: bool = False  # all the others
    reached: bool = False  # the driver
    versions: dict[str, str] = field(default_factory=dict)
    workspace: str = ""  # why it cannot be used; empty: it can
    gpus: int = 0


def probe(asked: Asked) -> dict[str, Any]:
    """Meet the other tasks at the driver's, and tell what this host is like: the fields of an `Answer`."""
    answer = Answer(socket.gethostname(), sys.prefix)
    with contextlib.ExitStack() as stack:
        stream = _connected(asked.addresses, stack)
        answer.reached = stream is not None
        answer.versions = versions_here(asked.packages)
        answer.workspace = _said(lambda: _use(asked.mark, asked.content))
        answer.gpus = _gpus()
        if stream is not None:
            stream.settimeout(asked.patience)
            with contextlib.suppress(OSError):
                answer.met = stream.recv(1) == b"!"
    return dict(vars(answer))  # dataclasses that came by value are none to dataclasses


def versions_here(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python, of packages and of this package's code, as far as they are there."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name).split("+")[0]  # builds for CPUs and GPUs go together
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    try:
        importlib.import_module("crossweave")
        found["crossweave"] = _digest()
    except Exception as error:
        found["crossweave"] = f"missing ({type(error).__name__}: {error})"
    return found


def _digest() -> str:
    """Return a short name of the code: in a folder or a zip, the same for the same modules."""
    found = hashlib.sha256()

    def walk(folder: Any, path: str) -> None:
        for entry in sorted(folder.iterdir(), key=lambda entry: str(entry.name)):
            if entry.is_dir():
                if entry.name not in ("__pycache__", "conf"):
                    walk(entry, f"{path}{entry.name}/")
            elif entry.name.endswith(".py"):
                found.update(f"{path}{entry.name}\n".encode() + entry.read_bytes())

    walk(resources.files("crossweave"), "")
    return f"code {found.hexdigest()[:8]}"


def _connected(addresses: Sequence[tuple[str, int]], stack: contextlib.ExitStack) -> socket.socket | None:
    for address in addresses:
        with contextlib.suppress(OSError):
            return stack.enter_context(socket.create_connection(address, CONNECT_SECONDS))
    return None


def _use(place: str, content: str) -> None:
    """Read what the driver has put there, and put something that only one can."""
    from crossweave.storage.location import Location

    mark = Location.of(place)
    if not mark.is_file() or mark.text() != content:
        raise FileNotFoundError(f"{mark}, which the driver has just written, is not there")
    own = mark.parent / f"{mark.name}-{uuid.uuid4().hex}"
    if mark.is_local:
        own.put("x")
    elif not own.create("x") or own.create("y"):
        raise OSError(f"{own} was put twice, though only where there is none")
    own.remove()


def _gpus() -> int:
    """Count the GPUs that Spark gave this task, or else that torch sees."""
    with contextlib.suppress(Exception):
        from pyspark import TaskContext

        context = TaskContext.get()
        given = context.resources().get("gpu") if context is not None else None
        if given is not None:
            return len(given.addresses)
    with contextlib.suppress(Exception):
        import torch

        return int(torch.cuda.device_count())
    return 0


def _said(work: Callable[[], None]) -> str:
    try:
        work()
    except Exception as error:
        where = f" ({os.strerror(error.errno)})" if isinstance(error, OSError) and error.errno else ""
        return f"{type(error).__name__}{where}: {(str(error).splitlines() or [''])[0][:300]}"
    return ""
