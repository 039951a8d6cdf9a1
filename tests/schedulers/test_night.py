"""What the schedulers share: which code counts, what is tried again, who is told."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import crossweave_night
import psutil
import pytest
from crossweave_night import Night
from documented import wait_for
from support import DATE, REPOSITORY

from crossweave import pipeline
from crossweave.config import load_settings
from crossweave.storage.lease import hold
from crossweave.storage.location import Location
from crossweave.storage.records import read_json

MakeNight = Callable[..., Night]
PROGRAM = REPOSITORY / "conf" / "schedulers" / "crossweave_night.py"


@pytest.mark.parametrize(
    ("exit_code", "result", "counts"),
    [
        (0, {"exit_code": 0}, 0),
        (0, {"exit_code": 75}, 75),  # a code that got lost on its way
        (1, {"exit_code": 3}, 3),
        (143, {"exit_code": 0}, 0),  # what came after the record was written is no news
        (2, None, 2),  # settings that cannot be read leave no record
        (-9, None, 75),
        (137, None, 75),
        (0, None, 1),
        (3, {"exit_code": None}, 3),
    ],
)
def test_the_record_counts_and_a_kill_without_one_is_tried_again(
    exit_code: int, result: Mapping[str, Any] | None, counts: int
) -> None:
    assert crossweave_night.verdict(exit_code, result) == counts


def test_the_stages_stand_in_the_order_of_the_pipeline(tmp_path: Path) -> None:
    everything = f"""
    workspace: {tmp_path}
    encoders: {{words: {{type: transformer}}}}
    pretrain: {{tasks: {{words: [{{objective: masked}}]}}}}
    export: {{path: {tmp_path / "out"}}}
    """
    conf = tmp_path / "all.yaml"
    conf.write_text(everything, encoding="utf-8")
    assert [stage.name for stage in pipeline.stages(load_settings([conf]))] == list(crossweave_night.ORDER)
    own = load_settings([REPOSITORY / "conf" / "movies.yaml"], [f"workspace={tmp_path}", "inputs.root=elsewhere"])
    assert [stage.name for stage in pipeline.stages(own)] == list(Night.of({}).stages)


@pytest.mark.parametrize("stages", ["embed ingest", "ingest embed trian", "ingest ingest", " "])
def test_stages_that_are_none_or_in_another_order_are_refused(stages: str) -> None:
    with pytest.raises(ValueError, match="CROSSWEAVE_STAGES must be some of `demo ingest pretrain"):
        Night.of({"CROSSWEAVE_STAGES": stages})


def test_a_job_is_run_and_its_record_read(a_night: MakeNight, tmp_path: Path) -> None:
    said: list[str] = []
    outcome = crossweave_night.run("demo", DATE, a_night(), said.append)
    assert (outcome.code, outcome.again) == (0, False)
    assert outcome.result["job"] == "demo" and outcome.result["date"] == DATE
    assert Path(outcome.record).is_file() and Path(outcome.record).is_relative_to(tmp_path / "ws")
    assert any(line.startswith("crossweave demo · ") for line in said)


def test_an_input_that_breaks_the_contract_is_not_tried_again(a_night: MakeNight, tmp_path: Path) -> None:
    more = ["--set", f"inputs.root={tmp_path / 'none'}"]
    outcome = crossweave_night.run("ingest", DATE, a_night(), more=more)
    assert (outcome.code, outcome.again) == (3, False)
    assert "InputContractError: " in str(outcome) and f"record: {outcome.record}" in str(outcome)


def test_a_workspace_that_another_run_holds_is_tried_again(a_night: MakeNight, tmp_path: Path) -> None:
    with hold(Location.of(tmp_path / "ws"), "another"):
        outcome = crossweave_night.run("ingest", DATE, a_night())
    assert (outcome.code, outcome.again) == (75, True)
    assert "held by run another" in str(outcome)


def test_a_job_that_is_killed_is_tried_again(a_night: MakeNight) -> None:
    def kill_it(line: str) -> None:
        if line.startswith("crossweave ingest"):
            for child in psutil.Process().children():
                if "ingest_catalog.py" in " ".join(child.cmdline()):
                    child.kill()

    outcome = crossweave_night.run("ingest", DATE, a_night(), kill_it)
    assert (outcome.code, outcome.record) == (75, "")


def test_a_job_that_takes_too_long_is_stopped_and_tried_again(a_night: MakeNight) -> None:
    said: list[str] = []
    outcome = crossweave_night.run("ingest", DATE, a_night(CROSSWEAVE_JOB_HOURS="0.0005"), said.append)
    assert outcome.again
    assert "ingest is stopped: it has taken more than CROSSWEAVE_JOB_HOURS=0.0005" in said
    assert not [child for child in psutil.Process().children() if "ingest_catalog.py" in " ".join(child.cmdline())]


def test_a_record_in_a_store_is_read_by_the_python_of_the_job(a_night: MakeNight, s3: Location, tmp_path: Path) -> None:
    more = ["--set", f"workspace={s3 / 'ws'}", "--set", f"inputs.root={tmp_path / 'none'}"]
    outcome = crossweave_night.run("ingest", DATE, a_night(), more=more)
    assert outcome.code == 3 and outcome.record.startswith(f"{s3 / 'ws' / 'runs'}/")
    assert outcome.result["error"]["type"] == "InputContractError"


def test_settings_that_are_refused_leave_no_record_and_are_told_by_what_was_said(a_night: MakeNight) -> None:
    outcome = crossweave_night.run("ingest", DATE, a_night(), more=["--set", "train.rnks=2"])
    assert (outcome.code, outcome.record) == (2, "")
    assert "did you mean train.ranks?" in str(outcome)


def cron(words: list[str], *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CROSSWEAVE_WORDS": shlex.join(words), "CROSSWEAVE_RETRY_MINUTES": "0.001", **variables}
    command = [sys.executable, str(PROGRAM), *more, "--date", DATE]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_on_standard_output_stand_failures_alone_and_somebody_is_told_once(words: list[str], tmp_path: Path) -> None:
    told = f"cat >>{tmp_path / 'told'}"
    well = cron(words, "demo", CROSSWEAVE_ON_FAILURE=told)
    assert (well.returncode, well.stdout) == (0, "") and "record: " in well.stderr
    assert not (tmp_path / "told").exists()
    with hold(Location.of(tmp_path / "ws"), "another"):
        held = cron(words, "ingest", CROSSWEAVE_RETRIES="1", CROSSWEAVE_ON_FAILURE=told)
    assert held.returncode == 75 and held.stdout.startswith(f"crossweave ingest of {DATE} ended with exit code 75\n")
    assert held.stderr.count("crossweave ingest · ") == 2 and held.stderr.count("is tried again in 0.001 minutes") == 1
    assert (tmp_path / "told").read_text(encoding="utf-8") == held.stdout.rstrip("\n")


def test_a_failed_command_of_the_alert_leaves_the_code_of_the_job(words: list[str], tmp_path: Path) -> None:
    more = ("--set", f"inputs.root={tmp_path / 'none'}")
    failed = cron(words, "ingest", *more, CROSSWEAVE_ON_FAILURE="exit 7")
    assert failed.returncode == 3 and "is tried again" not in failed.stderr
    assert "CROSSWEAVE_ON_FAILURE: " in failed.stderr and "Traceback" not in failed.stderr


def test_a_night_that_is_stopped_stops_its_job(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "ingest", "--date", DATE]
    environment = os.environ | {"CROSSWEAVE_WORDS": shlex.join(words)}
    quiet = subprocess.DEVNULL
    night = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    latest = tmp_path / "ws" / "runs" / "latest"
    wait_for(lambda: latest.exists() or night.poll() is not None)
    (job,) = psutil.Process(night.pid).children()
    night.terminate()
    assert night.wait(60) == 75 and not job.is_running()
    assert "SIGTERM" in read_json(latest / "run_result.json")["error"]["message"]
