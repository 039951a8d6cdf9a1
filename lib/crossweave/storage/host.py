"""Folders of this host for copies and shared arrays: private to the user, since others could put something there."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from crossweave.errors import SettingsError


def host_folder(use: str = "") -> Path:
    """Return this user's folder for a use, made where it is not there.

    Raises SettingsError where another user could have put something there.
    """
    root = host_name(use)
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    if not is_private(root):
        raise SettingsError(
            f"{root} is not a folder that this user alone can write to",
            "remove it, or set TMPDIR (on workers: spark.executorEnv.TMPDIR) to a folder of your own",
        )
    return root


def host_name(use: str = "") -> Path:
    """Return where that folder is, or would be."""
    return Path(tempfile.gettempdir()) / f"crossweave-{os.getuid()}{use}"


def is_private(folder: Path) -> bool:
    """Say whether a folder is no link, this user's, and closed to others; one that others could only read is closed."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        return False
    if found.st_mode & 0o055:
        folder.chmod(0o700)
    return True
