"""What killed runs leave in a workspace: half-written files and folders, under the names of the unfinished."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from crossweave.storage.location import Location
from crossweave.storage.names import TEMPORARY

ROOMS = ("receipts", "runs", "tables", "tensors", "models", "learned", "scored", "training", "encoders")
STAGING = "staging"
"""Folder of a stage's intermediates; only the run that holds the workspace has any."""
OF_DELTA = re.compile(r"^_commit_.*\.json\.tmp|#\d+$")
"""A commit to a Delta log that was never put in place."""


def remove_litter(workspace: Location) -> int:
    """Remove what unfinished runs left; returns how many files and folders went. Only who holds the lock may call it.

    Data files of commits that never came are the garbage collection's: only a table's log tells them from the others.
    """
    (workspace / STAGING).remove()
    if not workspace.is_local:  # other stores know no half-written files, or hide them
        return 0
    return len([path for path in _litter(workspace.local) if _remove(path)])


def remove_drafts(target: Path, workspace: Location) -> None:
    """Remove what killed runs of this workspace left beside a folder that they were to replace."""
    if not target.parent.is_dir():
        return
    for path in target.parent.iterdir():
        found = TEMPORARY.match(path.name)
        if found and found["name"] == target.name and (workspace / "runs" / found["token"]).is_folder():
            _remove(path)


def remove_empty_folders(root: Location) -> None:
    """Remove folders below `root` that hold nothing; only file systems have such."""
    if root.is_local:
        for folder in sorted((path for path in root.local.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
            if not any(folder.iterdir()):
                folder.rmdir()


def _litter(workspace: Path) -> Iterator[Path]:
    if not workspace.is_dir():
        return
    yield from (path for path in workspace.iterdir() if _is_unfinished(path.name, by_anyone=True))
    for room in ROOMS:
        for top, folders, files in os.walk(workspace / room):
            unfinished = [name for name in folders if _is_unfinished(name)]
            # A table's data folder holds thousands of files under names of another kind.
            folders[:] = [name for name in folders if name not in unfinished and (room, name) != ("tables", "data")]
            of_log = Path(top).name == "_delta_log"
            for name in (*unfinished, *files):
                if name in unfinished or _is_unfinished(name) or (of_log and OF_DELTA.search(name)):
                    yield Path(top) / name


def _is_unfinished(name: str, by_anyone: bool = False) -> bool:
    """Say whether a name is that of something unfinished; `by_anyone`: in a folder where others may have files too."""
    found = TEMPORARY.match(name)
    return found is not None and not (by_anyone and found["token"] in ("new", "old"))


def _remove(path: Path) -> bool:
    with suppress(OSError):  # what cannot go now goes with the next run
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True
    return False
