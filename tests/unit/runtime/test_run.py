"""A run leaves a truthful `run_result.json` however it ends: well, by a named error, a bug, a signal or a kill."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from one_step import Step, Work
from pyspark.sql import SparkSession

from crossweave.config import Settings
from crossweave.errors import (
    BudgetExceededError,
    CrossweaveError,
    InputContractError,
    ReconciliationError,
    SettingsError,
    TableError,
    TryAgainError,
)
from crossweave.runtime.faults import translate
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.result import RunResult
from crossweave.runtime.run import Run
from crossweave.runtime.stage import StageContext

DATE = datetime.date(2026, 3, 1)
KEYS = {"schema", "run_id", "job", "date", "status", "exit_code", "stages", "metrics", "error"}
STAGE_KEYS = {
    "name",
    "seconds",
    "rows_in",
    "rows_out",
    "skipped",
    "quarantined",
    "reads",
    "writes",
    "notes",
    "warnings",
}

SLEEPER = """
import datetime, sys, time
from crossweave.config import load_settings
from crossweave.runtime.record import Ledger
from crossweave.runtime.run import Run
from one_step import Step

def quick(context, record):
    record.ledgers = {"rows": Ledger(2, 2)}
    record.writes = {"catalog": 4}

def sleepy(context, record):
    print(context.run_id, flush=True)
    time.sleep(120)

run = Run("ingest", load_settings([], ["workspace=" + sys.argv[1]]), datetime.date(2026, 3, 1))
result = run.execute([Step("first", quick), Step("second", sleepy)], lambda record: None)
sys.exit(result.exit_code)
"""


def works(context: StageContext, record: StageRecord) -> None:
    record.ledgers = {"items": Ledger(5, 3, 1, {"empty": 1})}
    record.reads, record.writes = {"catalog": 2}, {"item_index": 3}
    record.metrics = {"quality": 0.5}


def finds_nothing(context: StageContext, record: StageRecord) -> None:
    record.nothing_to_do(5, {"catalog": 2}, "same as last night")


def raises(error: BaseException) -> Work:
    def stage(context: StageContext, record: StageRecord) -> None:
        raise error

    return stage


def execute(settings: Settings, *stages: Work) -> tuple[dict, Path]:
    """Run the stages; returns what the run wrote down, and its folder."""
    run = Run("ingest", settings, DATE)
    result = run.execute([Step(f"s{i}", stage) for i, stage in enumerate(stages)], lambda record: None)
    written = json.loads((run.folder / "run_result.json").read_text(encoding="utf-8"))
    assert written == result.as_json()
    assert set(written) == KEYS
    assert all(set(stage) == STAGE_KEYS for stage in written["stages"])
    return written, run.folder


@contextmanager
def sleeping_run(workspace: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a run in a process of its own; yields it with its run id once its second stage sleeps."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, str(workspace)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_run_that_worked_writes_down_everything_it_did(make_settings: Callable[..., Settings]) -> None:
    written, folder = execute(make_settings(), works)
    assert written["stages"][0].pop("seconds") >= 0
    assert written == {
        "schema": 1,
        "run_id": folder.name,
        "job": "ingest",
        "date": "2026-03-01",
        "status": "ok",
        "exit_code": 0,
        "stages": [
            {
                "name": "s0",
                "rows_in": 5,
                "rows_out": 3,
                "skipped": 1,
                "quarantined": {"empty": 1},
                "reads": {"catalog": 2},
                "writes": {"item_index": 3},
                "notes": [],
                "warnings": [],
            }
        ],
        "metrics": {
            "s0.quality": 0.5,
            "s0.items.rows_in": 5,
            "s0.items.rows_out": 3,
            "s0.items.skipped": 1,
            "s0.items.quarantined": 1,
        },
        "error": None,
    }


def test_a_run_is_a_noop_only_where_every_stage_found_nothing_to_do(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    for stages, status in (((finds_nothing, finds_nothing), "noop"), ((finds_nothing, works), "ok"), ((), "ok")):
        written, _ = execute(settings, *stages)
        assert (written["status"], written["exit_code"], written["error"]) == (status, 0, None)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (SettingsError, 2),
        (InputContractError, 3),
        (TableError, 3),
        (BudgetExceededError, 4),
        (TryAgainError, 75),
        (ReconciliationError, 1),
        (CrossweaveError, 1),
    ],
)
def test_a_named_error_is_written_down_with_its_exit_code(
    make_settings: Callable[..., Settings], kind: type[CrossweaveError], code: int
) -> None:
    written, _ = execute(make_settings(), works, raises(kind("what came", "what to do")), works)
    assert (written["status"], written["exit_code"]) == ("failed", code)
    assert written["error"] == {"type": kind.__name__, "message": "what came", "hint": "what to do"}
    assert [stage["name"] for stage in written["stages"]] == ["s0", "s1"]  # the third was never begun
    assert written["stages"][0]["rows_in"] == 5


def test_an_unexpected_exception_is_a_bug_whose_traceback_is_in_the_log(make_settings: Callable[..., Settings]) -> None:
    written, folder = execute(make_settings(), raises(ZeroDivisionError("division by zero\nsecond line")))
    assert (written["status"], written["exit_code"]) == ("failed", 1)
    assert written["error"]["type"] == "ZeroDivisionError"
    assert written["error"]["message"] == "division by zero"
    assert str(folder / "log.jsonl") in written["error"]["hint"]
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert "ZeroDivisionError: division by zero" in entries[-1]["traceback"]


def test_an_exception_without_words_is_named_by_its_type(make_settings: Callable[..., Settings]) -> None:
    written, _ = execute(make_settings(), raises(AssertionError()))
    assert written["error"]["message"] == "AssertionError"


def test_a_stage_that_lost_rows_fails_the_run_although_it_returned(make_settings: Callable[..., Settings]) -> None:
    def loses(context: StageContext, record: StageRecord) -> None:
        record.ledgers = {"items": Ledger(5, 4)}

    written, _ = execute(make_settings(), loses)
    assert (written["exit_code"], written["error"]["type"]) == (1, "ReconciliationError")


def test_a_full_disk_is_a_reason_to_try_again(make_settings: Callable[..., Settings]) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/ws/tables/part-0.parquet")
    written, _ = execute(make_settings(), raises(error))
    assert (written["status"], written["exit_code"]) == ("failed", 75)
    assert written["error"]["type"] == "TryAgainError"
    assert written["error"]["message"].startswith("the disk is full")


def test_an_interrupt_from_the_keyboard_is_reported_as_try_again(make_settings: Callable[..., Settings]) -> None:
    written, _ = execute(make_settings(), raises(KeyboardInterrupt()))
    assert (written["status"], written["exit_code"], written["error"]["type"]) == ("failed", 75, "Interrupted")


def test_an_exit_from_within_a_stage_is_written_down_and_goes_on(make_settings: Callable[..., Settings]) -> None:
    run = Run("ingest", make_settings(), DATE)
    with pytest.raises(SystemExit):
        run.execute([Step("s0", raises(SystemExit(0)))], lambda record: None)
    written = json.loads((run.folder / "run_result.json").read_text(encoding="utf-8"))
    assert (written["status"], written["exit_code"]) == ("failed", 1)


def test_a_file_name_that_is_no_text_does_not_keep_the_run_from_reporting(
    make_settings: Callable[..., Settings],
) -> None:
    name = b"/in/caf\xe9.parquet".decode("utf-8", "surrogateescape")
    run = Run("ingest", make_settings(), DATE)
    run.execute([Step("s0", raises(InputContractError(f"{name} is empty")))], lambda record: None)
    written = json.loads((run.folder / "run_result.json").read_text(encoding="utf-8"))
    assert written["exit_code"] == 3
    assert written["error"]["message"].startswith("/in/caf")


def test_a_metric_that_is_not_a_number_leaves_a_file_that_strict_readers_take(
    make_settings: Callable[..., Settings],
) -> None:
    def undefined(context: StageContext, record: StageRecord) -> None:
        record.metrics = {"auc": float("nan")}

    run = Run("ingest", make_settings(), DATE)
    run.execute([Step("s0", undefined)], lambda record: None)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    json.loads((run.folder / "run_result.json").read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_resolved_settings_are_saved_with_the_run(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(seed=99)
    _, folder = execute(settings, works)
    saved = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert Settings.model_validate(saved) == settings


def test_latest_points_at_the_newest_run_also_when_it_failed(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    latest = Path(settings.workspace) / "runs" / "latest"
    for stage in (works, raises(SettingsError("no")), finds_nothing):
        _, folder = execute(settings, stage)
        assert latest.resolve() == folder
    assert [path.name for path in latest.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_in_the_place_of_latest_is_named_with_what_to_do(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    (Path(settings.workspace) / "runs" / "latest").mkdir(parents=True)
    written, _ = execute(settings, works)
    assert written["exit_code"] == 2
    assert "latest is a folder where a link" in written["error"]["message"]


def test_a_stage_is_given_the_run_s_date_folder_and_workspace(make_settings: Callable[..., Settings]) -> None:
    settings, seen = make_settings(), []

    def looks(context: StageContext, record: StageRecord) -> None:
        seen.append((context.date, context.folder.is_dir(), context.workspace.local, context.settings is settings))

    execute(settings, looks)
    assert seen == [(DATE, True, Path(settings.workspace), True)]


def test_a_killed_run_says_interrupted_and_leaves_its_lock_free(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    workspace = Path(settings.workspace)
    with sleeping_run(workspace) as (process, run_id):
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    written = json.loads((workspace / "runs" / run_id / "run_result.json").read_text(encoding="utf-8"))
    assert set(written) == KEYS
    assert (written["status"], written["exit_code"], written["error"]["type"]) == ("failed", 75, "Interrupted")
    assert [(stage["name"], stage["rows_out"]) for stage in written["stages"]][:1] == [("first", 2)]
    assert written["stages"][0]["writes"] == {"catalog": 4}
    again, folder = execute(settings, works)
    assert again["status"] == "ok"
    assert (workspace / "runs" / "latest").resolve() == folder


def test_a_second_run_in_the_same_workspace_is_told_to_try_again_and_who_holds_it(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings()
    workspace = Path(settings.workspace)
    begun = []
    with sleeping_run(workspace) as (process, holder):
        written, _ = execute(settings, lambda context, record: begun.append(1))
        assert process.poll() is None
        assert (workspace / "runs" / "latest").resolve().name == holder
    assert begun == []
    assert (written["status"], written["exit_code"], written["stages"]) == ("failed", 75, [])
    assert written["error"]["type"] == "TryAgainError"
    assert written["error"]["message"] == f"the workspace {workspace} is held by run {holder}"


def test_two_runs_in_two_workspaces_do_not_hold_each_other(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    with sleeping_run(tmp_path / "other"):
        assert execute(make_settings(), works)[0]["status"] == "ok"


def test_the_lock_is_held_while_stages_run_and_free_after_an_error(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    lock = Path(settings.workspace) / ".lock"

    def free() -> bool:
        with lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    seen = []
    execute(settings, lambda context, record: seen.append(free()), raises(TableError("no")))
    assert seen == [False]
    assert free()


def test_the_result_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = RunResult(tmp_path, "r1", "ingest", DATE)
    result.write()
    before = result.place.local.read_bytes()
    result.succeed()

    def dies(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(OSError, match="No space"):
        result.write()
    assert result.place.local.read_bytes() == before
    monkeypatch.undo()
    with result.place.local.open("rb") as reader:  # who reads while it is replaced reads the old one to its end
        result.write()
        assert reader.read() == before
    assert result.place.local.read_bytes() != before


@pytest.mark.parametrize("kind", [InputContractError, TableError, BudgetExceededError, TryAgainError])
def test_a_named_error_survives_the_trip_through_pickle(kind: type[CrossweaveError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what came", "what to do")))
    assert (type(copy), copy.message, copy.hint, str(copy)) == (kind, "what came", "what to do", "what came")


def test_a_named_error_raised_on_a_spark_worker_is_named_on_the_driver(spark: SparkSession) -> None:
    def fails(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise BudgetExceededError("3 of 4 pictures are torn")
        yield from batches

    with pytest.raises(Exception) as caught:
        spark.range(3).mapInArrow(fails, "id long").collect()
    named = translate(caught.value)
    assert type(named) is BudgetExceededError
    assert named.message == "3 of 4 pictures are torn"


def test_an_error_of_a_worker_that_has_no_name_stays_a_bug(spark: SparkSession) -> None:
    def fails(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise ZeroDivisionError("division by zero")
        yield from batches

    with pytest.raises(Exception) as caught:
        spark.range(3).mapInArrow(fails, "id long").collect()
    assert translate(caught.value) is None


def test_a_damaged_page_that_spark_runs_into_is_an_input_error_with_the_file_s_name(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": [f"item {i}" for i in range(2000)]}), path, compression="snappy")
    raw = bytearray(path.read_bytes())
    for position in range(8, len(raw) // 2):  # the pages; the footer stays whole
        raw[position] ^= 0x5A
    path.write_bytes(raw)
    with pytest.raises(Exception) as caught:
        spark.read.schema("item_id string").parquet(str(path)).collect()
    named = translate(caught.value)
    assert type(named) is InputContractError
    assert str(path) in named.message


def test_translate_leaves_what_it_does_not_know() -> None:
    assert translate(ValueError("an ordinary mistake")) is None
    assert translate(RuntimeError("crossweave.errors.NoSuchError: x")) is None


def test_the_session_takes_the_master_that_spark_submit_was_given(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "from crossweave.config import load_settings\n"
        "from crossweave.runtime.session import open_session\n"
        "print('master', open_session(load_settings(), 'test').sparkContext.master)\n"
    )
    import pyspark

    home = Path(pyspark.__file__).parent
    command = [str(home / "bin" / "spark-submit"), "--master", "local[3]", "--conf", "spark.ui.enabled=false", str(job)]
    done = subprocess.run(
        command, env=os.environ | {"SPARK_HOME": str(home)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert "master local[3]" in done.stdout, done.stderr[-2000:]


def test_the_session_speaks_utc_stays_on_loopback_and_fails_on_values_that_do_not_fit(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.sparkContext.getConf().get("spark.driver.host") == "127.0.0.1"
    assert spark.sparkContext.master == "local[2]"
    with pytest.raises(Exception, match="CAST_INVALID_INPUT"):
        spark.sql("select cast('x' as int)").collect()
