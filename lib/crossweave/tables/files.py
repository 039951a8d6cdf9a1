"""Small files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossweave.errors import ArtifactError, TableError

TEMPORARY = re.compile(
    r"^\.(?P<name>.+?)\.(?P<token>[0-9a-f]{32}|[0-9]{8}T[0-9]{6}-[a-z]+-[0-9a-f]{6}|new|old)(\.(tmp|old|moved))?$"
)
"""The one rule of names: what is unfinished, or on its way out, is called `.NAME.TOKEN`, TOKEN a random number or a
run. What a killed run left is known by it (`litter.py`)."""


def temporary(path: Path) -> Path:
    """Return a name beside a file or folder for its unfinished state."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old content or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(path)
    with unfinished.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; mappings keep their order, which may mean something."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises TableError naming the file where it is torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{path} is not readable as JSON: {error}", "restore it or remove it and run again") from error


def write_record(path: Path, schema: int, value: Mapping[str, Any]) -> None:
    """Write a JSON object, atomically, with the version of its schema and its own sha-256, for `read_record`."""
    whole = {"schema": schema, **value}
    write_json(path, whole | {"sha256": digest(whole)})


def read_record(path: Path, schema: int, remedy: str, unsealed: bool = False) -> dict[str, Any]:
    """Read what `write_record` wrote, without schema and hash.

    `unsealed` takes one from before records had either. Raises ArtifactError, with the remedy, where the file is torn,
    changed, or of a schema that this version does not know.
    """
    try:
        whole = read_json(path)
    except TableError as error:
        raise ArtifactError(error.message, remedy) from error
    if not isinstance(whole, dict):
        raise ArtifactError(f"{path} holds no JSON object", remedy)
    if unsealed and "schema" not in whole and "sha256" not in whole:
        return whole
    if whole.get("schema") != schema:
        raise ArtifactError(
            f"{path} is of schema {whole.get('schema', 'none')}, this version of crossweave reads {schema}", remedy
        )
    claimed = whole.pop("sha256", None)
    if claimed != digest(whole):
        raise ArtifactError(f"{path} is not as it was written: its sha-256 differs", remedy)
    del whole["schema"]
    return whole


@dataclass(frozen=True)
class FileMark:
    """What a file must be: its bytes counted and hashed."""

    size: int
    sha256: str


def mark_file(path: Path) -> FileMark:
    """Return the mark of a file as it is."""
    return FileMark(path.stat().st_size, file_sha256(path))


_VERIFIED: set[tuple[str, int, int, int, str]] = set()
"""What this process has compared already: path, inode, size, time of change and hash."""


def verify_file(path: Path, mark: FileMark, what: str, remedy: str) -> None:
    """Compare a file with its mark, once a process; raises ArtifactError naming it where it is gone or differs."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ArtifactError(f"{what} {path} cannot be read: {error.strerror}", remedy) from error
    key = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, mark.sha256)
    if key in _VERIFIED:
        return
    if stat.st_size != mark.size:
        raise ArtifactError(f"{what} {path} has {stat.st_size} bytes instead of {mark.size}", remedy)
    if file_sha256(path) != mark.sha256:
        raise ArtifactError(f"{what} {path} is not the one that was written: its sha-256 differs", remedy)
    _VERIFIED.add(key)


def digest(value: Any) -> str:
    """Return the sha-256 of a JSON-able value, the order of its mappings included: the fingerprint of a stage's inputs.

    Mappings of the settings whose order means nothing are kept by name (`config.section.ByName`).
    """
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
