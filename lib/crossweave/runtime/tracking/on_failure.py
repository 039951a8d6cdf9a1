"""Calls somebody when a run failed: a command of the shell, or an address that takes JSON."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import Any

from crossweave.config.tracking import OnFailureSettings
from crossweave.runtime.tracking.base import Tracker
from crossweave.runtime.tracking.facts import RunFacts

SECONDS = 30  # that the command, or the address, may take


class OnFailure(Tracker):
    """Gives the failure as JSON to the command's standard input, and posts it to the address."""

    name = "on_failure"

    def __init__(self, own: OnFailureSettings) -> None:
        self._own = own

    def publish(self, facts: RunFacts) -> None:
        """Tell of a run that ended with one of the codes; raises RuntimeError where nobody could be told."""
        if facts.exit_code not in self._own.codes:
            return
        body = json.dumps(told_of(facts), ensure_ascii=False).encode()
        problems = []
        for tell, whom in ((_run, self._own.command), (_post, self._own.webhook)):
            if whom is not None:
                try:
                    tell(whom, body)
                except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
                    problems.append(_without_place(error))
        if problems:
            raise RuntimeError("; ".join(problems))


def told_of(facts: RunFacts) -> dict[str, Any]:
    """Return what is told of a failure; `text` says it in a line, where chats look for it."""
    what = f"{facts.error}: {facts.message}" if facts.message else facts.error
    return {
        "text": f"crossweave {facts.job} of {facts.date} failed (exit {facts.exit_code}): {what}",
        "run_id": facts.run_id,
        "job": facts.job,
        "date": facts.date,
        "exit_code": facts.exit_code,
        "error": {"type": facts.error, "message": facts.message, "hint": facts.hint},
        "stages": {stage.name: round(stage.seconds, 1) for stage in facts.stages},
        "record": facts.record,
    }


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is told of a run goes to the address that the settings name, and nowhere else."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _post(address: str, body: bytes) -> None:
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.build_opener(_NoRedirects).open(request, timeout=SECONDS) as answer:
        answer.read(1)


def _run(command: str, body: bytes) -> None:
    done = subprocess.run(["/bin/sh", "-c", command], input=body, capture_output=True, timeout=SECONDS, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(f"the command ended with {done.returncode}: {said[-1][:200] if said else 'it said nothing'}")


def _without_place(error: Exception) -> str:
    """Say what went wrong, without the command or the address: the latter is often the only secret of a chat."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the command took longer than {SECONDS} s"
    if isinstance(error, OSError):
        code = getattr(error, "code", None)
        return f"the webhook answered {code}" if code else f"the webhook could not be reached ({type(error).__name__})"
    return str(error)
