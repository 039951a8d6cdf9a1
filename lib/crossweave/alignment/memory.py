"""What a closed-form model would allocate, asked before it does."""

from __future__ import annotations

from pathlib import Path

import psutil

from crossweave.errors import SettingsError

CGROUP = Path("/sys/fs/cgroup/memory.max")


def check_memory(what: str, needed: float, mend: str) -> None:
    """Raise SettingsError where `what` needs more bytes than this machine, or what it is part of, has in all."""
    there = machine_memory()
    if needed > there:
        raise SettingsError(f"{what} needs {gigabytes(needed)} of memory, there are {gigabytes(there)}", mend)


def machine_memory() -> int:
    """Return the bytes of memory that this process may use at most."""
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    there = int(psutil.virtual_memory().total)
    return min(there, int(limit)) if limit.isdigit() else there


def gigabytes(size: float) -> str:
    """Write a number of bytes for people."""
    return f"{size / 1e9:,.1f} GB"
