"""JSON in a store: whole or not at all, and where it is a record, sealed by its own hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from crossweave.errors import ArtifactError, TableError
from crossweave.storage.lease import fence
from crossweave.storage.location import Location

Place = Location | os.PathLike[str]
"""A location, or a path of this machine."""


def write_json(place: Place, value: Any) -> None:
    """Write a value as indented JSON, whole; mappings keep their order, which may mean something."""
    Location.of(place).put(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(place: Place) -> Any:
    """Read a JSON file; raises TableError naming the file where it is torn, FileNotFoundError where there is none."""
    try:
        return json.loads(Location.of(place).text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(
            f"{place} is not readable as JSON: {error}", "restore it or remove it and run again"
        ) from error


def write_record(place: Place, schema: int, value: Mapping[str, Any]) -> None:
    """Write a JSON object, whole, with the version of its schema and its own sha-256, for `read_record`.

    Raises TryAgainError where another run has taken over the workspace that this process held.
    """
    whole = {"schema": schema, **value}
    fence(Location.of(place), thorough=True)  # with a record, what it speaks of exists for others
    write_json(place, whole | {"sha256": digest(whole)})


def read_record(place: Place, schema: int, remedy: str, unsealed: bool = False) -> dict[str, Any]:
    """Read what `write_record` wrote, without schema and hash.

    `unsealed` takes one from before records had either. Raises ArtifactError, with the remedy, where the file is torn,
    changed, or of a schema that this version does not know.
    """
    try:
        whole = read_json(place)
    except TableError as error:
        raise ArtifactError(error.message, remedy) from error
    if not isinstance(whole, dict):
        raise ArtifactError(f"{place} holds no JSON object", remedy)
    if unsealed and "schema" not in whole and "sha256" not in whole:
        return whole
    if whole.get("schema") != schema:
        raise ArtifactError(
            f"{place} is of schema {whole.get('schema', 'none')}, this version of crossweave reads {schema}", remedy
        )
    claimed = whole.pop("sha256", None)
    if claimed != digest(whole):
        raise ArtifactError(f"{place} is not as it was written: its sha-256 differs", remedy)
    del whole["schema"]
    return whole


def digest(value: Any) -> str:
    """Return the sha-256 of a JSON-able value, the order of its mappings included: the fingerprint of a stage's inputs.

    Mappings of the settings whose order means nothing are kept by name (`config.section.ByName`).
    """
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
