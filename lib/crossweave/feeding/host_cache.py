"""Arrays that the processes of a host share: private to the user, verified when opened, gone when nobody uses them."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from crossweave.errors import ArtifactError, TryAgainError
from crossweave.storage.copies import FileMark, mark_file, verify_file
from crossweave.storage.host import host_folder, host_name, is_private
from crossweave.storage.records import read_record, write_record

DONE, SCHEMA = "done.json", 1
UNUSED_SECONDS = 2 * 24 * 3600  # after which a set that nobody opened is removed
REMEDY = "it is made anew by the next process that asks"
log = logging.getLogger(__name__)


class HostCache:
    """One set of arrays, named by the content that it is made from."""

    def __init__(self, name: str) -> None:
        self.root = host_name()
        self.folder = self.root / name

    def open(self, build: Callable[[Path], None], size: int) -> dict[str, np.ndarray]:
        """Map the arrays into memory, read-only; without a whole set, `build` writes .npy files into an empty folder.

        `size` is what they take, in bytes. Raises TryAgainError where the host has no room for them or its folder for
        temporary files cannot be written, SettingsError where that folder is in somebody else's hands.
        """
        try:
            host_folder()
            found = self._whole()
            if found is None:
                self._forget_unused()
                self._build(build, size)
                found = self._whole()
        except OSError as error:
            raise TryAgainError(
                f"item arrays cannot be kept in {self.root}: {error.strerror or error}",
                "free space there, or set TMPDIR (on workers: spark.executorEnv.TMPDIR) to a local folder with room",
            ) from error
        if found is None:
            raise TryAgainError(f"{self.folder} vanished while it was opened", "run the same command again")
        return found

    def forget(self) -> None:
        """Remove the set from this host."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _whole(self) -> dict[str, np.ndarray] | None:
        """Return the arrays where a whole set is there; one that is not as it was written is removed."""
        done = self.folder / DONE
        if not os.path.lexists(self.folder):
            return None
        try:
            if not is_private(self.folder):
                raise ArtifactError(f"{self.folder} is not a folder that this user alone can write to")
            marks = {name: FileMark(**mark) for name, mark in read_record(done, SCHEMA, REMEDY)["files"].items()}
            for name, mark in marks.items():
                verify_file(self.folder / name, mark, "array", REMEDY)
            arrays = {Path(name).stem: np.load(self.folder / name, mmap_mode="r") for name in marks}
        except (ArtifactError, FileNotFoundError, NotADirectoryError) as error:
            log.warning("%s; %s", error, REMEDY)
            if self.folder.is_dir() and not self.folder.is_symlink():
                self.forget()
            else:
                self.folder.unlink(missing_ok=True)
            return None
        os.utime(done)
        return arrays

    def _build(self, build: Callable[[Path], None], size: int) -> None:
        free = shutil.disk_usage(self.root).free
        if free < size:
            raise OSError(f"{size:,} bytes are needed, {free:,} are free")
        building = self.root / f".{self.folder.name}.{os.getpid()}.{uuid.uuid4().hex}"
        building.mkdir(mode=0o700)
        try:
            build(building)
            files = {path.name: vars(mark_file(path)) for path in sorted(building.glob("*.npy"))}
            write_record(building / DONE, SCHEMA, {"files": files})
            building.rename(self.folder)
        except OSError:
            if not (self.folder / DONE).is_file():  # else another process was faster, with the same arrays
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _forget_unused(self) -> None:
        """Remove sets that nobody opened for long, and what processes that are gone have left half-built."""
        for path in self.root.iterdir():
            if path.name.startswith("."):
                owner = path.name.rsplit(".", 2)[-2]
                unused = not owner.isdigit() or not Path(f"/proc/{owner}").exists()
            else:
                used = path / DONE
                unused = time.time() - (used if used.is_file() else path).lstat().st_mtime > UNUSED_SECONDS
            if unused:
                shutil.rmtree(path, ignore_errors=True)
