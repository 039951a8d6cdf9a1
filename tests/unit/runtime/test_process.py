"""The process of a job: what it shows when nobody can read it, how it ends, and that no traceback gets out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from crossweave.runtime.process import start

def stage(context, record):
    from crossweave.runtime.record import Ledger
    record.ledgers = {{"items": Ledger(2, 2)}}
    {body}

def main(words):
    {before}
    from crossweave.runtime.job import run_job
    from one_step import Step
    return run_job("ingest", [Step("ingest", stage)], words, print)

start(main, print)
"""


def job(tmp_path: Path, body: str = "pass", before: str = "pass", shell: str = "", **environment: str):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(body=body, before=before))
    command = f'"{sys.executable}" "{script}" --set workspace="{tmp_path}/ws" {shell}'
    return subprocess.run(
        ["bash", "-c", command], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ("", {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}),
        ("", {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        (">&-", {}),
        ("2>&- >&- <&-", {}),
        ("> /dev/full", {}),
        ("2> /dev/full", {}),
        ("| true; exit ${PIPESTATUS[0]}", {}),
    ],
)
def test_a_job_ends_well_whoever_reads_its_screen(tmp_path: Path, shell: str, environment: dict[str, str]) -> None:
    done = job(tmp_path, "print('× · ü', file=sys.stderr)", shell=shell, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    record = (tmp_path / "ws" / "runs" / "latest" / "run_result.json").read_text(encoding="utf-8")
    assert '"exit_code": 0' in record


@pytest.mark.parametrize(
    ("body", "before", "code", "words"),
    [
        ("raise KeyError('x')", "pass", 1, "failed (exit 1): 'x'"),
        ("raise SystemExit(0)", "pass", 1, "failed (exit 1): "),
        ("raise OSError(24, 'Too many open files')", "pass", 75, "failed (exit 75): there are too few file handles"),
        ("pass", "import no_such_package", 2, "failed (exit 2): No module named 'no_such_package'"),
        ("pass", "raise ZeroDivisionError('odd')", 1, "failed (exit 1): ZeroDivisionError: odd"),
        ("pass", "raise PermissionError(13, 'Permission denied', '/x')", 2, "failed (exit 2): the rights to"),
        ("import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", "pass", 0, "done in"),
    ],
)
def test_however_a_job_ends_it_says_so_in_a_sentence(
    tmp_path: Path, body: str, before: str, code: int, words: str
) -> None:
    done = job(tmp_path, body, before)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_bad_usage_and_help_need_no_workspace(tmp_path: Path) -> None:
    for shell, code in (("--conf", 2), ("--date 2026-02-30", 2), ("--set x", 2), ("--help", 0)):
        done = job(tmp_path, shell=shell)
        assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (code, False)
    assert not (tmp_path / "ws").exists()


def test_what_a_library_does_at_the_end_of_the_process_changes_nothing(tmp_path: Path) -> None:
    """As pyarrow 14 may: abort (SIGABRT) in the interpreter's own end, after the work was done."""
    done = job(tmp_path, "import atexit, os; atexit.register(os.abort)")
    assert done.returncode == 0, done.stderr
