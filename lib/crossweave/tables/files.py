"""Small files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

from crossweave.errors import TableError

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
    """Write a value as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises TableError naming the file where it is torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{path} is not readable as JSON: {error}", "restore it or remove it and run again") from error


def digest(value: Any) -> str:
    """Return the sha-256 of a JSON-able value in canonical form: the fingerprint of a stage's inputs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
