"""The one rule of names: what is unfinished, or on its way out, is called `.NAME.TOKEN`.

TOKEN is a random number or a run. What a killed run left is known by it.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path

TEMPORARY = re.compile(
    r"^\.(?P<name>.+?)\.(?P<token>[0-9a-f]{32}|[0-9]{8}T[0-9]{6}-[a-z]+-[0-9a-f]{6}|new|old)(\.(tmp|old|moved))?$"
)


def temporary(path: Path) -> Path:
    """Return a name beside a file or folder for its unfinished state."""
    return path.with_name(temporary_name(path.name))


def temporary_name(name: str) -> str:
    """Return the name of something's unfinished state."""
    return f".{name}.{uuid.uuid4().hex}"
