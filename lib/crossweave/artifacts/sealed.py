"""A folder that a stage made: it exists once its record does, is never written to again, and is verified when opened.

The record, a JSON file that is written last, holds the fingerprint of all that decides the artifact and the size and
sha-256 of every file; whoever opens the artifact compares.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossweave.errors import ArtifactError
from crossweave.storage.copies import FileMark, mark_file, verify_file
from crossweave.storage.names import temporary
from crossweave.storage.records import read_record, write_record


@dataclass(frozen=True)
class Kind:
    """A kind of artifact."""

    word: str
    below: str  # folder of the workspace
    record: str
    schema: int
    stage: str  # that makes it
    beside: tuple[str, ...] = ()  # folders in it that are no part of it

    def place(self, workspace: Path, fingerprint: str) -> Path:
        """Return where the artifact of a fingerprint lies."""
        return workspace / self.below / fingerprint[:16]

    def remedy(self, folder: Path) -> str:
        """Say how to make a damaged one anew."""
        return f"remove the folder {folder} and run ./submit.sh {self.stage}, which makes it anew"


@dataclass(frozen=True)
class Sealed:
    """A complete artifact."""

    kind: Kind
    folder: Path
    fingerprint: str
    facts: Mapping[str, Any]
    files: Mapping[str, FileMark]

    def path(self, name: str) -> Path:
        """Return a file of the artifact; raises ArtifactError where it is not the one that was made."""
        if name not in self.files:
            raise ArtifactError(f"the {self.kind.word} {self.folder} has no file {name}", self.kind.remedy(self.folder))
        path = self.folder / name
        verify_file(path, self.files[name], f"file of the {self.kind.word}", self.kind.remedy(self.folder))
        return path

    def array(self, name: str) -> np.ndarray:
        """Map an array into memory, copy-on-write: torch wants writable ones, and a host's processes share the rest."""
        array: np.ndarray = np.load(self.path(f"{name}.npy"), mmap_mode="c", allow_pickle=False)
        return array

    def verify(self) -> None:
        """Compare every file; raises ArtifactError naming the first that differs."""
        for name in self.files:
            self.path(name)


def seal(kind: Kind, folder: Path, fingerprint: str, facts: Mapping[str, Any]) -> Sealed:
    """Write the record of a folder whose files are all there; with it, and not before, the artifact exists."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder): path for path in paths}
    files = {
        name.as_posix(): mark_file(path)
        for name, path in names.items()
        if name.parts[0] not in (*kind.beside, kind.record) and not path.name.startswith(".")
    }
    value = {**facts, "fingerprint": fingerprint, "files": {name: asdict(mark) for name, mark in files.items()}}
    write_record(folder / kind.record, kind.schema, value)
    return Sealed(kind, folder, fingerprint, dict(facts), files)


def open_sealed(kind: Kind, folder: Path, fingerprint: str | None = None) -> Sealed | None:
    """Open an artifact; None where it was never finished.

    Raises ArtifactError for a damaged record, one of a version that this code does not know, or, where a fingerprint is
    given, that of another artifact. Files are compared as they are opened.
    """
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


def open_required(kind: Kind, folder: Path, fingerprint: str | None = None) -> Sealed:
    """Open an artifact that a receipt names; raises ArtifactError where it is gone, and as `open_sealed` does."""
    sealed = open_sealed(kind, folder, fingerprint)
    if sealed is None:
        raise ArtifactError(f"the {kind.word} {folder} is gone", f"run ./submit.sh {kind.stage}, which makes it anew")
    return sealed


def draft_folder(folder: Path) -> Path:
    """Make an empty folder beside an artifact's place, to build it in."""
    draft = temporary(folder)
    draft.mkdir(parents=True)
    return draft


def put_in_place(draft: Path, folder: Path) -> None:
    """Give a sealed draft its name, in one rename; what lies there without a record is a killed run's."""
    if folder.exists():
        shutil.rmtree(folder)
    draft.rename(folder)
