"""Promise 1: kill -9 at any point, run again, and the tables are those of a run that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from support import REPOSITORY, Chain, Night

from crossweave.stages.ingest import INGEST
from crossweave.stages.pretrain import PRETRAIN

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


def start(chain: Chain, job: str = "pipeline", **pairs: Any) -> subprocess.Popen:
    """Start a job in a process group of its own, as a scheduler would."""
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
    command = [f"{home}/bin/spark-submit", *options, str(REPOSITORY / "jobs" / f"{job}.py"), *chain.words(**pairs)]
    environment = {key: value for key, value in os.environ.items() if key != "PYSPARK_GATEWAY_PORT"}
    environment |= {"SPARK_HOME": home, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    log = (chain.workspace.parent / "out.txt").open("ab")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def kill_in(process: subprocess.Popen, chain: Chain, stage: str, seconds: float) -> None:
    """Kill the whole group some seconds after a stage has started."""
    wait_for_line(process, chain, "log.jsonl", f'"stage {stage} starts"')
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_line(process: subprocess.Popen, chain: Chain, file: str, line: str) -> None:
    """Wait until a file of any run has a line, while the process lives."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not any(line in path.read_text(encoding="utf-8") for path in chain.workspace.glob(f"runs/2*/{file}")):
        assert process.poll() is None, (chain.workspace.parent / "out.txt").read_text(encoding="utf-8")[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


@pytest.mark.slow
def test_an_encoder_whose_learning_was_killed_ends_with_the_weights_of_one_never_killed(
    tmp_path: Path, shop: Path, spark: SparkSession
):
    folder = tmp_path / "here"
    chain = Chain(folder / "ws", shop)
    step = {"objective": "masked", "max_epochs": 6, "patience": 6, "batch": 4, "tune": {"method": "full"}}
    fresh = {"width": 16, "layers": 1, "words": 400, "max_tokens": 32}
    pairs = {
        "encoders__own": {"type": "transformer", "precision": "float32", "backend": "eager"},
        "modalities__text__encoder": "own",
        "pretrain__tasks": {"own": [step | {"fresh": fresh}]},
    }
    assert chain.run([INGEST], **pairs)["exit_code"] == 0
    never = chain.copy(tmp_path / "never")
    process = start(chain, "pretrain_encoders", **pairs)
    wait_for_line(process, chain, "pretrain-own-1-masked.jsonl", '"epoch": 2')
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(chain.workspace.glob("learned/*"))
    figures = chain.run([PRETRAIN], **pairs)["metrics"]
    assert figures["pretrain.own.1.resumed_from"] > 0
    assert never.run([PRETRAIN], **pairs)["metrics"]["pretrain.own.1.resumed_from"] == 0
    for name in ("model.safetensors", "tokenizer.json"):
        one, other = (
            next(ws.glob(f"learned/*/model/{name}")).read_bytes() for ws in (chain.workspace, never.workspace)
        )
        assert one == other, name
