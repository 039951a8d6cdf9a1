"""The Dagster job, loaded and run by Dagster itself, which has an environment of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from environments import Environment
from support import DATE, REPOSITORY, Night

from crossweave.storage.lease import hold
from crossweave.storage.location import Location
from crossweave.storage.records import read_json

pytestmark = pytest.mark.slow
JOB = REPOSITORY / "conf" / "schedulers" / "crossweave_dagster.py"
PROBE = Path(__file__).with_name("dagster_probe.py")
STAGES = ["ingest", "embed", "tensors", "train", "score", "evaluate"]


def run(programs: Path, words: list[str], more: str = "", **variables: str) -> dict[str, Any]:
    """Run a night by Dagster, with more words for its first stage; returns what it saw."""
    own = {"CROSSWEAVE_WORDS": shlex.join(words), "CROSSWEAVE_RETRY_MINUTES": "0.001", **variables}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PY")} | own
    command = [str(programs / "python"), str(PROBE), str(JOB), DATE, more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    shown: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return shown


def records(workspace: Path) -> list[dict[str, Any]]:
    runs = sorted(path for path in (workspace / "runs").iterdir() if path.name != "latest")
    return [read_json(Location.of(path / "run_result.json")) for path in runs]


def test_dagster_runs_an_op_a_stage_for_the_date_of_the_schedule(
    environment: Environment, words: list[str], night: Night, tmp_path: Path
) -> None:
    before = len(records(night.chain.copy(tmp_path / "ws").workspace))
    seen = run(environment("dagster"), words)
    assert seen["success"] and seen["stages"] == STAGES and seen["key"] == DATE
    assert [step for event, step in seen["events"] if event == "STEP_SUCCESS"] == STAGES
    assert [(one["job"], one["date"]) for one in records(tmp_path / "ws")[before:]] == [(name, DATE) for name in STAGES]


@pytest.mark.parametrize(
    ("more", "held", "code", "tries"),
    [("--set inputs.root=/nowhere", False, 3, 1), ("", True, 75, 3)],
    ids=["contract", "held"],
)
def test_an_op_is_tried_again_on_75_and_fails_at_once_on_3(
    environment: Environment, words: list[str], tmp_path: Path, more: str, held: bool, code: int, tries: int
) -> None:
    told = tmp_path / "told"
    own = {"CROSSWEAVE_RETRIES": "2", "CROSSWEAVE_STAGES": "ingest embed", "CROSSWEAVE_ON_FAILURE": f"cat >>{told}"}
    with hold(Location.of(tmp_path / "ws"), "another") if held else nullcontext():
        seen = run(environment("dagster"), words, more, **own)
    kinds = [event for event, step in seen["events"] if step == "ingest"]
    assert not seen["success"]
    assert kinds.count("STEP_UP_FOR_RETRY") == kinds.count("STEP_RESTARTED") == tries - 1
    assert kinds.count("STEP_FAILURE") == 1 and {step for _, step in seen["events"]} == {"ingest"}
    assert [one["exit_code"] for one in records(tmp_path / "ws")] == [code] * tries
    assert told.read_text(encoding="utf-8").startswith("ingest: ")
