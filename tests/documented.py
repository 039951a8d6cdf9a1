"""Commands of the documentation, run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support import QUICK_JAVA, REPOSITORY, TINY

from crossweave.config.load import nested
from crossweave.config.plain import merged
from crossweave.storage.location import Location
from crossweave.storage.records import read_json

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HERE = re.compile(r"(?<![\w./])(?:\./)?((?:submit\.sh|jobs/|dist/|conf/)[\w./-]*)")
"""What a command names by its place in the checkout, in which a reader stands."""

LONGEST_SECONDS = 900  # of one command, on a machine that others use too
TO_RUN_ON = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME", "TMPDIR") if name in os.environ}
"""What the environment of a user who has just logged in has of this one."""
RANK = "horovod.spark.task.gloo_exec_fn"
"""What a rank's command line names."""


class Command:
    """A command under way, and what it says; it and what it starts are a process group."""

    def __init__(self, process: subprocess.Popen[bytes], screen: Path) -> None:
        self.process, self.screen = process, screen

    @property
    def said(self) -> list[str]:
        """The lines of its screen."""
        return self.screen.read_text("utf-8", "replace").splitlines()

    def until(self, seen: str | Callable[[], object]) -> None:
        """Wait for a line that starts so, or something else that happens before the command ends."""

        def happened() -> bool:
            assert self.process.poll() is None, self._end_of_screen()
            return bool(seen() if callable(seen) else any(line.startswith(seen) for line in self.said))

        wait_for(happened)

    def send(self, number: int) -> None:
        """Send a signal to all of it."""
        os.killpg(self.process.pid, number)

    def ends(self, code: int) -> dict[str, Any]:
        """Wait for the end, which must have this code; returns the record that it names, if any."""
        assert self.process.wait(LONGEST_SECONDS) == code, self._end_of_screen()
        places = [line.removeprefix("record: ") for line in self.said if line.startswith("record: ")]
        record: dict[str, Any] = read_json(Location.of(places[-1])) if places else {}
        return record

    def _end_of_screen(self) -> str:
        return "\n".join(self.said[-60:])


class Reader:
    """Somebody who reads the documentation and types its commands, in a folder that is not the checkout.

    `meant`: what they put for an example of a page; `environment`: what they have set beside what a login sets.
    """

    def __init__(self, folder: Path, meant: Mapping[str, str], environment: Mapping[str, str]) -> None:
        if not (REPOSITORY / ".venv" / ".ready").is_file():
            pytest.skip("submit.sh has not set .venv up here, and a test must not install anything")
        self.folder, self.screens, self.meant = folder / "here", folder, meant
        self.environment = TO_RUN_ON | {"JDK_JAVA_OPTIONS": QUICK_JAVA, "LANG": "C.UTF-8"} | environment
        self.folder.mkdir()

    def start(self, command: str, more: Sequence[str] = ()) -> Command:
        """Start a command, with more words behind it."""
        for example, value in self.meant.items():
            command = command.replace(example, value)
        command = HERE.sub(lambda found: str(REPOSITORY / found[1]), command)
        screen = self.screens / f"screen-{len(list(self.screens.glob('screen-*')))}"
        with screen.open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command} {shlex.join(more)}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Command(process, screen)

    def screen(self) -> str:
        """Return all that all commands have said."""
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.screens.glob("screen-*")))


def settings_of_ones_own(path: Path, values: Mapping[str, Any]) -> str:
    """Write those of the tiny shop with some values of one's own; returns the path."""
    shop = yaml.safe_load((REPOSITORY / "conf" / "local.yaml").read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(merged(shop, nested(TINY | values))), encoding="utf-8")
    return str(path)


def wait_for(seen: Callable[[], object]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill_one(processes: Sequence[psutil.Process]) -> None:
    """Kill one of some processes."""
    processes[0].kill()


def commands(page: str, heading: str) -> list[str]:
    """Return the commands under a heading of a page: the lines of its blocks without a language."""
    lines = "\n".join(_blocks(page, heading, "")).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def properties(page: str, heading: str) -> dict[str, str]:
    """Return the settings of Spark's that stand under a heading of a page."""
    return dict(line.split(maxsplit=1) for block in _blocks(page, heading, "properties") for line in block.splitlines())


def _blocks(page: str, heading: str, language: str) -> list[str]:
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    _, found, after = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading}"
    text = re.split(rf"\n#{{1,{heading.index(' ')}}} ", after)[0]
    return [block for named, block in FENCE.findall(text) if named == language]
