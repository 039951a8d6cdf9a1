"""The main that all jobs share: usage, what is said on screen, and the exit code."""

from __future__ import annotations

import datetime
import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from one_step import Step
from support import hear

from crossweave.config import Settings
from crossweave.errors import BudgetExceededError, SettingsError
from crossweave.runtime.job import StageList, describe, parse, run_job
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.result import RunResult
from crossweave.runtime.stage import StageContext

SLEEPER = """
import sys, time
from crossweave.runtime.job import run_job
from one_step import Step

def sleepy(context, record):
    print("asleep", flush=True)
    time.sleep(120)

sys.exit(run_job("ingest", [Step("ingest", sleepy)], sys.argv[1:], say=lambda text: print(text, flush=True)))
"""


def works(context: StageContext, record: StageRecord) -> None:
    record.ledgers = {"items": Ledger(1200, 1000, 150, {"torn": 20, "empty": 30})}


def fails(context: StageContext, record: StageRecord) -> None:
    raise BudgetExceededError("too many are bad", "look at the quarantine")


def finds_nothing(context: StageContext, record: StageRecord) -> None:
    record.nothing_to_do(3, {}, "same as last night")


def run(tmp_path: Path, stages: StageList, *words: str) -> tuple[int, list[str]]:
    said: list[str] = []
    arguments = ["--set", f"workspace={tmp_path / 'ws'}", *words]
    return run_job("ingest", stages, arguments, said.append), said


def result(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "ws" / "runs" / "latest" / "run_result.json").read_text(encoding="utf-8"))


def test_a_job_says_what_it_begins_what_it_did_and_where_the_record_is(tmp_path: Path) -> None:
    code, said = run(tmp_path, [Step("ingest", works)], "--date", "2026-03-01")
    run_id = result(tmp_path)["run_id"]
    assert code == 0
    assert said[0] == f"crossweave ingest · 2026-03-01 · run {run_id}"
    assert re.fullmatch(
        r"  ingest +0\.\d s  1,200 in · 1,000 out · 150 skipped · 50 quarantined \(empty 30, torn 20\)", said[1]
    )
    assert said[2].startswith("done in ")
    assert said[3:] == [f"record: {tmp_path / 'ws' / 'runs' / run_id / 'run_result.json'}"]


def test_a_job_with_nothing_to_do_says_so_and_exits_0(tmp_path: Path) -> None:
    code, said = run(tmp_path, [Step("ingest", finds_nothing)])
    assert code == 0
    assert said[1].endswith("3 in · 0 out · 3 skipped · same as last night")
    assert said[2].startswith("nothing to do in ")


def test_a_failed_job_says_why_and_what_to_do_and_exits_with_the_error_s_code(tmp_path: Path) -> None:
    code, said = run(tmp_path, [Step("ingest", works), Step("embed", fails), Step("score", works)])
    assert code == 4
    assert said[2:4] == ["failed (exit 4): too many are bad", "what to do: look at the quarantine"]
    assert result(tmp_path)["exit_code"] == 4
    assert not any("score" in line for line in said)


def test_a_bug_exits_1_without_a_traceback_on_the_screen(tmp_path: Path) -> None:
    def breaks(context: StageContext, record: StageRecord) -> None:
        raise KeyError("item_id")

    code, said = run(tmp_path, [Step("ingest", breaks)])
    assert code == 1
    assert said[1] == "failed (exit 1): 'item_id'"
    assert "log.jsonl holds the traceback" in said[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--date", "1 March"], "--date expects YYYY-MM-DD, got '1 March'"),
        (["--date", "2026-02-30"], "--date expects YYYY-MM-DD, got '2026-02-30'"),
        (["--date", "2026-W09-7"], "--date expects YYYY-MM-DD, got '2026-W09-7'"),
        (["--date", "0001-01-01"], "--date expects a year from 1970 to 2199, got 0001-01-01"),
        (["--date", "9999-12-31"], "--date expects a year from 1970 to 2199, got 9999-12-31"),
        (["--dat", "2026-02-03"], "unrecognized arguments: --dat 2026-02-03"),
        (["--set", "workspace=/"], "workspace=/ is a folder of the system"),
        (["--date"], "argument --date: expected one argument"),
        (["--set"], "argument --set: expected one argument"),
        (["stray"], "unrecognized arguments: stray"),
        (["--conf", "absent.yaml"], "the settings file absent.yaml does not exist"),
        (["--set", "seed"], "--set takes section.key=value, got 'seed'"),
        (["--set", "train.ranks=0"], "train.ranks: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_bad_usage_exits_2_with_one_sentence_and_starts_nothing(
    tmp_path: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(tmp_path, [Step("ingest", works)], *words)
    assert code == 2
    assert said[0].startswith(f"failed (exit 2): {sentence}")
    assert all("\n" not in line for line in said)
    assert len(said) <= 2
    assert capsys.readouterr() == ("", "")  # argparse says nothing by itself
    assert not (tmp_path / "ws").exists()


def test_a_check_may_refuse_the_settings_before_anything_is_started(tmp_path: Path) -> None:
    said: list[str] = []

    def refuses(settings: Settings) -> None:
        raise SettingsError(f"no for {settings.seed}")

    arguments = ["--set", f"workspace={tmp_path / 'ws'}", "--set", "seed=5"]
    assert run_job("ingest", [Step("ingest", works, refuses)], arguments, said.append) == 2
    assert said == ["failed (exit 2): no for 5"]
    assert not (tmp_path / "ws").exists()


def test_stages_may_follow_from_the_settings(tmp_path: Path) -> None:
    said: list[str] = []
    arguments = ["--set", f"workspace={tmp_path / 'ws'}", "--set", "seed=3"]

    def chosen(settings: Settings) -> StageList:
        return [Step(f"s{i}", works) for i in range(settings.seed)]

    assert run_job("pipeline", chosen, arguments, said.append) == 0
    assert [stage["name"] for stage in result(tmp_path)["stages"]] == ["s0", "s1", "s2"]


def test_without_words_a_job_takes_the_embedded_default_and_today_in_utc() -> None:
    before = datetime.datetime.now(datetime.UTC).date()
    settings, date = parse("ingest", [])
    after = datetime.datetime.now(datetime.UTC).date()
    assert before <= date <= after
    assert set(settings.modalities) == {"text", "tags", "image", "sound", "style"}


def test_conf_files_and_pairs_are_taken_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("seed: 1\ndemo: {items: 50}")
    second.write_text("seed: 2")
    words = ["--conf", str(first), "--conf", str(second), "--date", "2026-03-01"]
    settings, date = parse("ingest", words)
    assert (settings.seed, settings.demo.items, date) == (2, 50, datetime.date(2026, 3, 1))
    assert parse("ingest", [*words, "--set", "seed=3", "--set", "seed=4"])[0].seed == 4


def test_a_disk_too_full_for_the_record_itself_is_still_reported_as_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fills_the_disk(context: StageContext, record: StageRecord) -> None:
        def full(self: RunResult) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.place))

        monkeypatch.setattr(RunResult, "write", full)

    code, said = run(tmp_path, [Step("ingest", fills_the_disk)])
    assert code == 75
    assert said[1].startswith("failed (exit 75): the disk is full")


def test_describe_leaves_out_what_did_not_happen() -> None:
    assert describe(StageRecord("ingest", 1.0, {"rows": Ledger(2, 2)})) == "  ingest        1.0 s  2 in · 2 out"
    assert describe(StageRecord("demo", 2.0, note="/ws/demo")) == "  demo          2.0 s  done · /ws/demo"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_stopped_by_a_signal_reports_try_again(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", SLEEPER, "--set", f"workspace={tmp_path / 'ws'}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": hear}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout is not None
            while process.stdout.readline() not in ("asleep\n", ""):
                pass
            os.kill(process.pid, number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 75
    assert out.startswith("failed (exit 75): the run was stopped by a signal")
    assert "Traceback" not in err
    written = result(tmp_path)
    assert (written["status"], written["exit_code"], written["error"]["type"]) == ("failed", 75, "Interrupted")
