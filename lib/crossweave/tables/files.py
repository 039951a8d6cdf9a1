"""Small files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from crossweave.errors import TableError


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old content or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; mappings keep their order, which may mean something."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises TableError naming the file where it is torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{path} is not readable as JSON: {error}", "restore it or remove it and run again") from error


def digest(value: Any) -> str:
    """Return the sha-256 of a JSON-able value, the order of its mappings included: the fingerprint of a stage's inputs.

    Mappings of the settings whose order means nothing are kept by name (`config.section.ByName`).
    """
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
