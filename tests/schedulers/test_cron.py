"""The crontab's lines, run as cron runs them: its variables, `\\%` for a percent sign, its shell, no screen."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import DATE, REPOSITORY, Night

from crossweave.storage.location import Location
from crossweave.storage.records import read_json

CRONTAB = REPOSITORY / "conf" / "schedulers" / "crontab"
LINE = re.compile(r"(?P<when>(?:\S+ ){5})(?P<command>\S.*)")


@dataclass(frozen=True)
class Cron:
    """A crontab in which only the values of its first lines are one's own, and the checkout that they name."""

    variables: dict[str, str]
    commands: dict[str, str]  # when -> what
    home: Path

    def run(self, when: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a line; what it says is what cron mails."""
        command = re.sub(r"\\%", "%", self.commands[when])
        words = [self.variables["SHELL"], "-c", command]
        environment = self.variables | more
        return subprocess.run(words, env=environment, cwd="/", input="", capture_output=True, text=True, timeout=500)


NIGHTLY, WEEKLY = "15 2 * * *", "45 14 * * 0"


@pytest.fixture
def cron(tmp_path: Path, words: list[str]) -> Cron:
    """The crontab over a checkout of links, so that its lock and its log are the test's own."""
    home = tmp_path / "checkout"
    home.mkdir()
    for name in (".venv", "conf", "jobs", "lib", "setup.py", "submit.sh"):
        (home / name).symlink_to(REPOSITORY / name)
    lines = [line for line in CRONTAB.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = [LINE.fullmatch(line) for line in lines]
    commands = {match["when"].strip(): match["command"] for match in found if match}
    variables = dict(line.split("=", 1) for line, match in zip(lines, found, strict=True) if not match)
    assert set(variables) == {"SHELL", "PATH", "MAILTO", "CROSSWEAVE_HOME", "CROSSWEAVE_WORDS"}
    variables |= {"CROSSWEAVE_HOME": str(home), "CROSSWEAVE_WORDS": shlex.join(words)}
    variables |= {name: os.environ[name] for name in ("HOME", "JAVA_HOME", "TMPDIR") if name in os.environ}
    if shutil.which("java", path=variables["PATH"]) is None:  # as a reader would set it
        variables["PATH"] += f":{Path(str(shutil.which('java'))).parent}"
    return Cron(variables, commands, home)


def record_of(workspace: Path) -> dict[str, Any]:
    return dict(read_json(Location.of(workspace / "runs" / "latest" / "run_result.json")))


def test_an_unset_percent_sign_would_end_a_line_and_there_is_none() -> None:
    text = CRONTAB.read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)%", text) and r"\%F" in text


def test_while_a_night_runs_the_next_one_starts_nothing_and_says_so(cron: Cron, tmp_path: Path) -> None:
    with (cron.home / ".night.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = cron.run(NIGHTLY)
    assert refused.stdout == f"the night ended with exit code 75: see {cron.home}/nights.log\n"
    assert not (tmp_path / "ws").exists() and (cron.home / "nights.log").read_text(encoding="utf-8") == ""


def test_a_night_that_fails_is_mailed_with_what_to_do(cron: Cron, tmp_path: Path) -> None:
    words = f"{cron.variables['CROSSWEAVE_WORDS']} --set inputs.root={tmp_path / 'none'}"
    failed = cron.run(NIGHTLY, CROSSWEAVE_WORDS=words)
    first, *rest = failed.stdout.splitlines()
    assert re.fullmatch(r"crossweave pipeline of \d{4}-\d\d-\d\d ended with exit code 3", first)
    assert "what to do: " in failed.stdout
    assert rest[-1] == f"the night ended with exit code 3: see {cron.home}/nights.log"
    assert record_of(tmp_path / "ws")["date"] == first.split()[3]


@pytest.mark.slow
def test_the_lines_of_night_and_week_run_and_mail_nothing_where_all_is_well(
    cron: Cron, night: Night, tmp_path: Path
) -> None:
    night.chain.copy(tmp_path / "ws")
    for when, job in ((NIGHTLY, "pipeline"), (WEEKLY, "gc")):
        done = cron.run(when)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        record = record_of(tmp_path / "ws")
        assert (record["job"], record["exit_code"]) == (job, 0)
        assert record["date"] != DATE
