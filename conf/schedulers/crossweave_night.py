"""What every scheduler needs to run a night: start a job, believe its record, tell who is on call.

Needs nothing but Python's standard library, since a scheduler has a Python of its own. As a program it runs one job for
cron: `crossweave_night.py JOB [WORDS]`. docs/schedulers.md names the environment variables.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ORDER = ("demo", "ingest", "pretrain", "embed", "tensors", "train", "score", "evaluate", "export")
"""Every stage in the order of crossweave.pipeline."""
USUAL = "ingest embed tensors train score evaluate"
BUG, TRY_AGAIN = 1, 75
STOP_SECONDS = 30  # a job ends within ten seconds of SIGTERM
LAST_LINES = 20  # of what a job said, for when it left no record
READ = "import sys; from crossweave.storage.location import Location as L; print(L.of(sys.argv[1]).text())"

Say = Callable[[str], None]


def say_now(line: str) -> None:
    """Say a line to whoever reads this process."""
    print(line, flush=True)


@dataclass(frozen=True)
class Night:
    """How nights are run: what the environment says, with defaults."""

    home: Path
    words: tuple[str, ...]
    stages: tuple[str, ...]
    retries: int
    retry_minutes: float
    hours: float  # that one job may take
    on_failure: str

    @staticmethod
    def of(environment: Mapping[str, str]) -> Night:
        """Read the variables CROSSWEAVE_…; raises ValueError for stages that are none, or stand in another order."""
        stages = tuple(environment.get("CROSSWEAVE_STAGES", USUAL).split())
        if not stages or [name for name in ORDER if name in stages] != list(stages):
            raise ValueError(f"CROSSWEAVE_STAGES must be some of `{' '.join(ORDER)}` in this order, not {stages}")
        return Night(
            home=Path(environment.get("CROSSWEAVE_HOME") or Path(__file__).resolve().parents[2]),
            words=tuple(shlex.split(environment.get("CROSSWEAVE_WORDS", ""))),
            stages=stages,
            retries=int(environment.get("CROSSWEAVE_RETRIES", "3")),
            retry_minutes=float(environment.get("CROSSWEAVE_RETRY_MINUTES", "10")),
            hours=float(environment.get("CROSSWEAVE_JOB_HOURS", "6")),
            on_failure=environment.get("CROSSWEAVE_ON_FAILURE", ""),
        )


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    job: str
    date: str
    code: int
    record: str = ""  # where it lies
    report: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    last: Sequence[str] = ()

    @property
    def again(self) -> bool:
        """Whether the same command is to be run again."""
        return self.code == TRY_AGAIN

    def __str__(self) -> str:
        error = self.result.get("error") or {}
        lines = [f"crossweave {self.job} of {self.date} ended with exit code {self.code}"]
        lines += [f"{error['type']}: {error['message']}", f"what to do: {error['hint']}"] if error else list(self.last)
        lines += [f"{name}: {place}" for name, place in (("record", self.record), ("report", self.report)) if place]
        return "\n".join(lines)


def verdict(exit_code: int, result: Mapping[str, Any] | None) -> int:
    """Return the code that counts: that of run_result.json, where there is one.

    Without one a signal, which a job that could do so would have told of, is a fault that passes; 0 is not believed.
    """
    if result is not None and isinstance(result.get("exit_code"), int):
        return int(result["exit_code"])
    if exit_code < 0 or exit_code > 128:
        return TRY_AGAIN
    return exit_code or BUG


def run(
    job: str,
    date: str,
    night: Night,
    say: Say = say_now,
    more: Sequence[str] = (),
    started: Callable[[subprocess.Popen[str]], None] = lambda process: None,
) -> Outcome:
    """Run a job of ./submit.sh to its end, which comes by SIGTERM after the night's hours, and return its outcome.

    `started` is handed the process, for a scheduler that ends tasks from elsewhere.
    """
    said: deque[str] = deque(maxlen=200)
    process = subprocess.Popen(
        [str(night.home / "submit.sh"), job, *night.words, *more, "--date", date],
        cwd=night.home,
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    started(process)
    reader = threading.Thread(target=_pass_on, args=(process.stdout, said, say), daemon=True)
    reader.start()
    try:
        process.wait(night.hours * 3600)
    except subprocess.TimeoutExpired:
        say(f"{job} is stopped: it has taken more than CROSSWEAVE_JOB_HOURS={night.hours:g}")
    finally:  # also where the scheduler ends this task
        _stop(process)
        reader.join(STOP_SECONDS)
    record, report = _named("record: ", said), _named("report: ", said)
    result = _read(record, night.home) if record else None
    code = verdict(process.returncode, result)
    return Outcome(job, date, code, record, report, result or {}, list(said)[-LAST_LINES:])


def alert(text: str, night: Night) -> None:
    """Hand a text to the command CROSSWEAVE_ON_FAILURE, on its standard input; what becomes of it changes nothing."""
    if night.on_failure:
        try:
            subprocess.run(night.on_failure, shell=True, input=text, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"CROSSWEAVE_ON_FAILURE: {error}\n")


def _pass_on(stream: IO[str], said: deque[str], say: Say) -> None:
    for line in stream:
        said.append(line.rstrip("\n"))
        say(said[-1])


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _named(what: str, said: Sequence[str]) -> str:
    return next((line.strip()[len(what) :] for line in reversed(said) if line.strip().startswith(what)), "")


def _read(record: str, home: Path) -> dict[str, Any] | None:
    """Read a record, from a store by the job's own Python, which knows stores; None where that fails."""
    try:
        if "://" not in record:
            text = (home / record).read_text(encoding="utf-8")
        else:
            command = [str(home / ".venv/bin/python"), "-c", READ, record]
            environment = os.environ | {"PYTHONPATH": str(home / "lib")}
            done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
            text = done.stdout.decode()
        result = json.loads(text)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return result if isinstance(result, dict) else None


def main(arguments: Sequence[str]) -> int:
    """Run a job for cron, again while it ends with 75; returns its code. Standard output stays empty if all is well."""
    parser = argparse.ArgumentParser(prog="crossweave_night.py", allow_abbrev=False)
    parser.add_argument("job")
    parser.add_argument("--date", default=datetime.datetime.now(datetime.timezone.utc).date().isoformat())  # noqa: UP017
    given, more = parser.parse_known_args(arguments)
    night = Night.of(os.environ)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TRY_AGAIN))  # which stops the job on its way

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for attempt in range(1 + night.retries):
        if attempt:
            minutes = night.retry_minutes * 2 ** (attempt - 1)
            log(f"{given.job} is tried again in {minutes:g} minutes, {attempt} of {night.retries}")
            time.sleep(60 * minutes)
        outcome = run(given.job, given.date, night, log, more)
        if not outcome.again:
            break
    if outcome.code:
        print(outcome)
        alert(str(outcome), night)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
