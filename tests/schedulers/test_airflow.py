"""The DAG, loaded and run by Airflow itself, which has an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from documented import wait_for
from environments import Environment
from support import DATE, REPOSITORY

from crossweave.storage.lease import hold
from crossweave.storage.location import Location
from crossweave.storage.records import read_json

pytestmark = pytest.mark.slow
DAG = REPOSITORY / "conf" / "schedulers" / "crossweave_airflow.py"
PROBE = Path(__file__).with_name("airflow_probe.py")
SECONDS = 500


@dataclass(frozen=True)
class Airflow:
    """An Airflow with a home of its own and the DAG linked into its folder, as the page says."""

    programs: Path
    home: Path

    @property
    def dags(self) -> Path:
        """The folder that Airflow looks for DAGs in."""
        return self.home / "dags"

    def run(self, *words: str, **variables: str) -> str:
        """Run a program of its environment; returns what it wrote."""
        said = self.home / "said"
        process = self.start(said, *words, **variables)
        assert process.wait(SECONDS) == 0, said.read_text("utf-8", "replace")[-5000:]
        return said.read_text("utf-8", "replace")

    def start(self, said: Path, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start one, which writes into a file."""
        own = {"AIRFLOW_HOME": str(self.home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PY")} | own | variables
        command = [str(self.programs / words[0]), *words[1:]]
        with said.open("wb") as stream:
            return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)

    def loaded(self, **variables: str) -> dict[str, Any]:
        """Return the one DAG as Airflow understands it."""
        said = self.run("python", str(PROBE), str(self.dags), **variables)
        found = json.loads(said.partition("PROBE ")[2].splitlines()[0])
        assert not found["errors"], found["errors"]
        (dag,) = found["dags"]
        return dict(dag)


@pytest.fixture(scope="module")
def airflow(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """An Airflow whose tables are made."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / DAG.name).symlink_to(DAG)
    installed = Airflow(environment("airflow"), home)
    installed.run("airflow", "db", "migrate")
    return installed


def test_airflow_loads_a_task_a_stage_one_night_at_a_time(airflow: Airflow) -> None:
    dag = airflow.loaded(CROSSWEAVE_POOL="spark", CROSSWEAVE_JOB_HOURS="2", CROSSWEAVE_SCHEDULE="30 3 * * *")
    assert dag["tasks"] == ["ingest", "embed", "tensors", "train", "score", "evaluate"]
    assert dag["after"] == {
        "ingest": [],
        "embed": ["ingest"],
        "tensors": ["embed"],
        "train": ["tensors"],
        "score": ["train"],
        "evaluate": ["score"],
    }
    assert (dag["max_active_runs"], dag["catchup"], dag["retries"]) == (1, False, [3])
    assert (dag["pools"], dag["limits"], dag["schedule"]) == (["spark"], [2 * 3600 + 600], "30 3 * * *")


@pytest.mark.parametrize(
    ("more", "held", "code", "state"),
    [("", False, 0, "success"), ("--set inputs.root=/nowhere", False, 3, "failed"), ("", True, 75, "up_for_retry")],
    ids=["done", "contract", "held"],
)
def test_a_task_is_tried_again_on_75_and_fails_at_once_on_3(
    airflow: Airflow, words: list[str], tmp_path: Path, more: str, held: bool, code: int, state: str
) -> None:
    workspace, told = tmp_path / "ws", tmp_path / "told"
    variables = {"CROSSWEAVE_WORDS": shlex.join(words), "CROSSWEAVE_ON_FAILURE": f"cat >{told}"}
    with hold(Location.of(workspace), "another") if held else nullcontext():
        params = json.dumps({"words": more})
        said = airflow.run(
            "airflow", "tasks", "test", "--task-params", params, "crossweave", "ingest", DATE, **variables
        )
    (run,) = (path for path in (workspace / "runs").iterdir() if path.name != "latest")
    record = read_json(run / "run_result.json")
    assert (record["exit_code"], record["date"], record["job"]) == (code, DATE, "ingest")
    assert re.findall(r"new_state=(\w+)", said)[-1] == state
    assert told.exists() == (state == "failed")
    if told.exists():
        assert f"record: {run / 'run_result.json'}" in told.read_text(encoding="utf-8")


def test_a_task_that_airflow_ends_stops_its_job(airflow: Airflow, words: list[str], tmp_path: Path) -> None:
    variables = {"CROSSWEAVE_WORDS": shlex.join(words)}
    said = tmp_path / "said"
    task = airflow.start(said, "airflow", "tasks", "test", "crossweave", "ingest", DATE, **variables)
    latest = tmp_path / "ws" / "runs" / "latest"
    wait_for(lambda: latest.exists() or task.poll() is not None)
    task.send_signal(signal.SIGTERM)  # of which a worker's task hears before it is killed
    task.wait(SECONDS)
    record = read_json(latest / "run_result.json")
    assert record["exit_code"] == 75 and "SIGTERM" in record["error"]["message"]
    text = said.read_text("utf-8", "replace")  # of a task that has seen its job end
    assert f"crossweave ingest of {DATE} ended with exit code 75" in text and "new_state=up_for_retry" in text
