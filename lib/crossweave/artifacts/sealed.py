"""A folder that a stage made: it exists once its record does, is never written to again, and is verified when opened.

The record, a JSON file that is written last, holds the fingerprint of all that decides the artifact and the size and
sha-256 of every file; whoever opens the artifact compares.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossweave.errors import ArtifactError
from crossweave.storage.copies import FileMark, check_sizes, mark_file, verified, verified_folder
from crossweave.storage.location import Location
from crossweave.storage.names import temporary
from crossweave.storage.records import Place, read_record, write_record


@dataclass(frozen=True)
class Kind:
    """A kind of artifact."""

    word: str
    below: str  # folder of the workspace
    record: str
    schema: int
    stage: str  # that makes it

    def place(self, workspace: Place, fingerprint: str) -> Location:
        """Return where the artifact of a fingerprint lies."""
        return Location.of(workspace) / self.below / fingerprint[:16]

    def remedy(self, folder: Location) -> str:
        """Say how to make a damaged one anew."""
        return f"remove the folder {folder} and run ./submit.sh {self.stage}, which makes it anew"


@dataclass(frozen=True)
class Sealed:
    """A complete artifact."""

    kind: Kind
    folder: Location
    fingerprint: str
    facts: Mapping[str, Any]
    files: Mapping[str, FileMark]

    def path(self, name: str) -> Path:
        """Return a file of the artifact, on this machine; ArtifactError where it is not the one that was made."""
        if name not in self.files:
            raise ArtifactError(f"the {self.kind.word} {self.folder} has no file {name}", self.kind.remedy(self.folder))
        what = f"file of the {self.kind.word}"
        return verified(self.folder / name, self.files[name], what, self.kind.remedy(self.folder))

    def here(self) -> Path:
        """Return the artifact's folder, on this machine; ArtifactError where a file is not the one that was made."""
        what = f"file of the {self.kind.word}"
        return verified_folder(self.folder, self.files, what, self.kind.remedy(self.folder))

    def array(self, name: str) -> np.ndarray:
        """Map an array into memory, copy-on-write: torch wants writable ones, and a host's processes share the rest."""
        array: np.ndarray = np.load(self.path(f"{name}.npy"), mmap_mode="c", allow_pickle=False)
        return array

    def check_sizes(self) -> None:
        """Look whether every file is where it was put; raises ArtifactError naming the first that is not."""
        marks = {self.folder / name: mark for name, mark in self.files.items()}
        check_sizes(marks, f"file of the {self.kind.word}", self.kind.remedy(self.folder))

    def verify(self) -> None:
        """Compare every file; raises ArtifactError naming the first that differs."""
        for name in self.files:
            self.path(name)


@contextmanager
def building(folder: Location) -> Iterator[Path]:
    """Give an empty folder of this machine to build an artifact in; what was not published goes with the body."""
    draft = temporary(folder.local) if folder.is_local else Path(tempfile.mkdtemp(prefix="crossweave-"))
    draft.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish(kind: Kind, draft: Path, folder: Location, fingerprint: str, facts: Mapping[str, Any]) -> Sealed:
    """Put what was built in its place, the record last; with it, and not before, the artifact exists."""
    paths = sorted(path for path in draft.rglob("*") if path.is_file())
    files = {path.relative_to(draft).as_posix(): mark_file(path) for path in paths}
    value = {**facts, "fingerprint": fingerprint, "files": {name: asdict(mark) for name, mark in files.items()}}
    folder.remove()  # what lies there has no record: a killed run's
    if folder.is_local:
        write_record(draft / kind.record, kind.schema, value)
        draft.rename(folder.local)
    else:
        folder.upload_folder(draft)
        write_record(folder / kind.record, kind.schema, value)
    return Sealed(kind, folder, fingerprint, dict(facts), files)


def open_sealed(kind: Kind, folder: Place, fingerprint: str | None = None) -> Sealed | None:
    """Open an artifact; None where it was never finished.

    Raises ArtifactError for a damaged record, one of a version that this code does not know, or, where a fingerprint is
    given, that of another artifact. Files are compared as they are opened.
    """
    folder = Location.of(folder)
    path = folder / kind.record
    if not path.is_file():
        return None
    value = read_record(path, kind.schema, kind.remedy(folder))
    files = {name: FileMark(**mark) for name, mark in value.pop("files").items()}
    found = value.pop("fingerprint")
    if fingerprint is not None and found != fingerprint:
        raise ArtifactError(
            f"{path} is the record of another {kind.word}: expected fingerprint {fingerprint[:16]}, found {found[:16]}",
            kind.remedy(folder),
        )
    return Sealed(kind, folder, found, value, files)


def open_required(kind: Kind, folder: Place, fingerprint: str | None = None) -> Sealed:
    """Open an artifact that a receipt names; raises ArtifactError where it is gone, and as `open_sealed` does."""
    sealed = open_sealed(kind, folder, fingerprint)
    if sealed is None:
        raise ArtifactError(f"the {kind.word} {folder} is gone", f"run ./submit.sh {kind.stage}, which makes it anew")
    return sealed
