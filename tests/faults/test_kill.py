"""Promise 1: kill -9 at any point, run again, and the tables are those of a run that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPOSITORY, Chain, Night

TABLES = (
    "catalog",
    "users",
    "interactions",
    "history",
    "item_index",
    "user_index",
    "quarantine",
    "recommendations",
    "metrics",
)
LONGEST_SECONDS = 400


def start(chain: Chain) -> subprocess.Popen:
    """Start the pipeline in a process group of its own, as a scheduler would."""
    import pyspark

    home = str(Path(pyspark.__file__).parent)
    options = [
        "--driver-memory",
        "1g",
        "--driver-java-options",
        "-XX:TieredStopAtLevel=1",
        "--conf",
        "spark.ui.enabled=false",
        "--master",
        "local[2]",
    ]
    command = [f"{home}/bin/spark-submit", *options, str(REPOSITORY / "jobs" / "pipeline.py"), *chain.words()]
    environment = {key: value for key, value in os.environ.items() if key != "PYSPARK_GATEWAY_PORT"}
    environment |= {"SPARK_HOME": home, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    log = (chain.workspace.parent / "out.txt").open("ab")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def kill_in(process: subprocess.Popen, chain: Chain, stage: str, seconds: float) -> None:
    """Kill the whole group some seconds after a stage has started."""
    deadline = time.monotonic() + LONGEST_SECONDS
    needle = f'"stage {stage} starts"'
    while not any(needle in path.read_text(encoding="utf-8") for path in chain.workspace.glob("runs/2*/log.jsonl")):
        assert process.poll() is None, (chain.workspace.parent / "out.txt").read_text(encoding="utf-8")[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def content(chain: Chain, table: str) -> list[str]:
    """Return a table's rows in an order of their own, as text; which run refused a row is another in each chain."""
    rows = ({name: value for name, value in row.items() if name != "run_id"} for row in chain.table(table))
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)


# One workspace is killed in every stage in turn, a little later each time, and finished at the end.
KILLS = (("ingest", 2.0), ("embed", 4.0), ("tensors", 3.0), ("train", 6.0), ("score", 2.0), ("evaluate", 1.0))


@pytest.mark.slow
def test_a_pipeline_killed_in_every_stage_ends_with_the_tables_of_one_never_killed(
    night: Night, tmp_path: Path, shop: Path
):
    chain = Chain(tmp_path / "ws", shop)
    for stage, seconds in KILLS:
        process = start(chain)
        kill_in(process, chain, stage, seconds)
        record = json.loads(max(chain.workspace.glob("runs/2*/run_result.json")).read_text(encoding="utf-8"))
        assert record["status"] == "failed"
        assert record["error"]["type"] == "Interrupted"
    process = start(chain)
    assert process.wait(LONGEST_SECONDS) == 0, (chain.workspace.parent / "out.txt").read_text(encoding="utf-8")[-2000:]
    for table in TABLES:
        assert content(chain, table) == content(night.chain, table), table
    assert chain.features() == night.chain.features()
    assert not (chain.workspace / "staging").exists()
