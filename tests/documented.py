"""Commands of the documentation, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HERE = re.compile(r"(?<![\w./])(?:\./)?((?:submit\.sh|jobs/|dist/|conf/)[\w./-]*)")
"""What a command names by its place in the checkout, in which a reader stands."""


def commands(page: str, heading: str = "") -> list[str]:
    """Return the commands under a heading of a page, or of all of it: the lines of its blocks without a language."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    if heading:
        _, found, after = text.partition(f"\n{heading}\n")
        assert found, f"{page} has no heading {heading}"
        text = re.split(rf"\n#{{1,{heading.index(' ')}}} ", after)[0]
    blocks = [block.replace("\\\n", " ") for language, block in FENCE.findall(text) if not language]
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a user who has just logged in."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME", "TMPDIR") if name in os.environ}
    return kept | {"LANG": "C.UTF-8"} | more


def start(
    command: str, meant: Mapping[str, str], folder: Path, more: Mapping[str, str], screen: IO[Any] | int
) -> subprocess.Popen[str]:
    """Start a command in another folder than the checkout; `meant`: what a reader puts for the page's examples."""
    if not (REPOSITORY / ".venv" / ".ready").is_file():
        pytest.skip("submit.sh has not set .venv up here, and a test must not install anything")
    for example, value in meant.items():
        assert example in command, f"{command} does not say {example}"
        command = command.replace(example, value)
    command = HERE.sub(lambda found: str(REPOSITORY / found[1]), command)
    pipes: dict[str, Any] = {"stdout": screen, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=folder, env=environment(more), **pipes)
