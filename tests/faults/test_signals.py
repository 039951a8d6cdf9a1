"""What is told to stop stops: exit 75 within seconds, the record says so, the lock is free and a rerun converges."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from support import REPOSITORY, Chain, hear

from crossweave.training.collective import Collective, run_ranks

pytestmark = pytest.mark.slow

LONGEST_SECONDS = 400
SECONDS_TO_STOP = 15  # 8 of grace, the rest for a busy machine
WEIGHED = "models/.*/model.safetensors"

HEAD = """
import sys, time
from crossweave.runtime.process import start

def main(words):
    from crossweave.runtime.job import run_job
    from one_step import Step
    return run_job("ingest", [Step("ingest", stage)], words, print)
"""
BUSY = {
    "sleeps": "def stage(context, record):\n    print('busy'); time.sleep(300)",
    "is in C code": """
def stage(context, record):
    import hashlib
    print('busy'); hashlib.pbkdf2_hmac('sha256', b'x', b'y', 2_000_000_000)
""",
    "clears away for ever": """
def stage(context, record):
    try:
        print('busy'); time.sleep(300)
    finally:
        time.sleep(300)
""",
    "has swallowed the interrupt": """
def stage(context, record):
    print('busy')
    while True:
        try:
            time.sleep(300)
        except BaseException:
            pass
""",
    "waits for a thread": """
def stage(context, record):
    import threading
    thread = threading.Thread(target=time.sleep, args=(300,), daemon=True)
    thread.start(); print('busy'); thread.join()
""",
    "waits for the JVM": """
def stage(context, record):
    spark = context.spark
    print('busy')
    spark.range(10**13).selectExpr("sum(id * id % 7)").collect()
""",
    "has not begun": "print('busy'); time.sleep(300)",
}


def environment() -> dict[str, str]:
    import pyspark

    kept = {key: value for key, value in os.environ.items() if key != "PYSPARK_GATEWAY_PORT"}
    options = "--driver-memory 1g --driver-java-options -XX:TieredStopAtLevel=1 --conf spark.ui.enabled=false"
    return kept | {
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "PYSPARK_SUBMIT_ARGS": f"{options} --master local[2] pyspark-shell",
        "PYTHONUNBUFFERED": "1",
    }


def record_of(workspace: Path) -> dict:
    return json.loads(max(workspace.glob("runs/2*/run_result.json")).read_text(encoding="utf-8"))


def is_free(workspace: Path) -> bool:
    with (workspace / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("sleeps", signal.SIGTERM),
        ("sleeps", signal.SIGINT),
        ("sleeps", signal.SIGHUP),
        ("is in C code", signal.SIGTERM),
        ("clears away for ever", signal.SIGINT),
        ("has swallowed the interrupt", signal.SIGTERM),
        ("waits for a thread", signal.SIGINT),
        ("has not begun", signal.SIGTERM),
        ("has not begun", signal.SIGINT),
    ],
)
def test_a_job_stops_whatever_it_does(tmp_path: Path, how: str, number: signal.Signals) -> None:
    stops(tmp_path, how, number)


def test_a_job_stops_while_it_waits_for_the_jvm(tmp_path: Path) -> None:
    stops(tmp_path, "waits for the JVM", signal.SIGINT)


def stops(tmp_path: Path, how: str, number: signal.Signals) -> None:
    script, workspace = tmp_path / "job.py", tmp_path / "ws"
    if how == "has not begun":
        inside = BUSY[how].replace("\n", "\n    ")
        script.write_text(f"{HEAD.partition('def main')[0]}def main(words):\n    {inside}\nstart(main, print)\n")
    else:
        script.write_text(f"{HEAD}\n{BUSY[how]}\nstart(main, print)\n")
    command = [sys.executable, str(script), "--set", f"workspace={workspace}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": hear}
    with subprocess.Popen(command, env=environment(), **pipes) as process:  # type: ignore[call-overload]
        try:
            while process.stdout.readline() not in ("busy\n", ""):
                pass
            time.sleep(0.5)
            process.send_signal(number)
            started = time.monotonic()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 75, out + err
    assert time.monotonic() - started < SECONDS_TO_STOP
    assert "Traceback" not in out + err
    if how != "has not begun":
        written = record_of(workspace)
        assert (written["status"], written["exit_code"], written["error"]["type"]) == ("failed", 75, "Interrupted")
        assert number.name in written["error"]["message"]
        assert is_free(workspace)


VAE = {"family": "vae", "side": 16, "channels": [8, 12], "latent": 16}
LEARNS = {  # what the pretrain stage needs to have work
    "encoders": {"own": {"type": "vae", "precision": "float32", "backend": "eager"}},
    "modalities": {"image": {"encoder": "own"}},
    "pretrain": {"tasks": {"own": [{"objective": "rebuilt", "fresh": VAE, "tune": {"method": "full"}}]}},
}


def start(chain: Chain, job: str = "pipeline") -> subprocess.Popen:
    home = chain.workspace.parent
    log, conf = (home / "out.txt").open("ab"), home / "learns.yaml"
    conf.write_text(json.dumps(LEARNS if job == "pretrain_encoders" else {}), encoding="utf-8")
    words = chain.words([REPOSITORY / "conf/local.yaml", conf], train__max_epochs=2, export__path=str(home / "export"))
    command = [sys.executable, str(REPOSITORY / "jobs" / f"{job}.py"), *words]
    return subprocess.Popen(command, env=environment(), stdout=log, stderr=log, start_new_session=True, preexec_fn=hear)


def said_since(chain: Chain, before: set[Path]) -> str:
    logs = set(chain.workspace.glob("runs/2*/log.jsonl")) - before
    return "".join(path.read_text(encoding="utf-8") for path in logs)


def stop_in(chain: Chain, stage: str, seconds: float, number: signal.Signals, job: str = "pipeline") -> None:
    """Run a job and send it a signal some seconds after a stage, or the blend of train, has started."""
    stage, _, phase = stage.partition(".")
    process, deadline = start(chain, job), time.monotonic() + LONGEST_SECONDS
    before = set(chain.workspace.glob("runs/2*/log.jsonl"))
    needle = f'"stage {stage} starts"'
    try:
        # Ranks are done, and their blend begins, where the model's weights are in the folder that is being built.
        while needle not in said_since(chain, before) or (phase and not list(chain.workspace.glob(WEIGHED))):
            assert process.poll() is None, (chain.workspace.parent / "out.txt").read_text(encoding="utf-8")[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(seconds)
        process.send_signal(number)
        assert process.wait(SECONDS_TO_STOP) == 75
    finally:
        process.kill()
    written = record_of(chain.workspace)
    assert (written["exit_code"], written["error"]["type"]) == (75, "Interrupted")
    assert number.name in written["error"]["message"]
    assert [entry["name"] for entry in written["stages"]][-1] == stage
    assert is_free(chain.workspace)
    assert "Traceback" not in (chain.workspace.parent / "out.txt").read_text(encoding="utf-8")


def test_the_pipeline_stops_in_every_stage_and_a_rerun_ends_well(tmp_path: Path, shop: Path) -> None:
    chain = Chain(tmp_path / "ws", shop)
    stop_in(chain, "ingest", 1.0, signal.SIGTERM)
    stop_in(chain, "embed", 0.5, signal.SIGTERM)
    stop_in(chain, "pretrain", 0.5, signal.SIGINT, "pretrain_encoders")
    stop_in(chain, "tensors", 0.3, signal.SIGINT)
    stop_in(chain, "train", 3.0, signal.SIGINT)
    stop_in(chain, "train.blend", 0.0, signal.SIGTERM)  # from here on this process has trained:
    stop_in(chain, "score", 0.5, signal.SIGTERM)  # Horovod's handlers were there
    stop_in(chain, "evaluate", 0.3, signal.SIGINT)
    stop_in(chain, "export", 0.0, signal.SIGTERM)
    process = start(chain)
    assert process.wait(LONGEST_SECONDS) == 0, (chain.workspace.parent / "out.txt").read_text(encoding="utf-8")[-2000:]
    assert not [path.name for path in chain.workspace.rglob(".*") if path.name != ".lock" and path.suffix != ".crc"]


def test_a_run_of_ranks_leaves_the_handlers_of_signals_as_they_were(spark: SparkSession, tmp_path: Path) -> None:
    def rank_of(plan: str, collective: Collective) -> int:  # in here, so that it travels by value
        if plan == "fail":
            raise ValueError("on purpose")
        return collective.rank

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    assert run_ranks(rank_of, "work", 2, 120, tmp_path / "ranks", loopback=True) == 0
    assert [signal.getsignal(number) for number in numbers] == before
    with pytest.raises(RuntimeError, match="on purpose"):
        run_ranks(rank_of, "fail", 2, 120, tmp_path / "ranks", loopback=True)
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_python_worker_is_silent_about_output_of_ranks_that_nobody_reads_any_more(spark: SparkSession) -> None:
    def said(_: object) -> list[bool]:
        import contextlib
        import io
        import threading

        def fail(error: Exception) -> None:
            raise error

        def heard(name: str, error: Exception) -> bool:
            screen = io.StringIO()
            with contextlib.redirect_stderr(screen):
                thread = threading.Thread(target=fail, args=(error,), name=name)
                thread.start()
                thread.join()
            return "Traceback" in screen.getvalue()

        copying = "Thread-15 (prefix_connection)"
        closed = RuntimeError("Pipe is closed")
        return [heard(copying, closed), heard(copying, OSError("disk")), heard("Thread-3 (work)", closed)]

    assert spark.sparkContext.range(1, numSlices=1).map(said).collect() == [[False, True, True]]
