"""The door: what ./submit.sh says and returns before and around a job."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import REPOSITORY

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}


def submit(*words: str, **environment: str) -> subprocess.CompletedProcess:
    if not (REPOSITORY / ".venv" / ".ready").is_file():
        pytest.skip("submit.sh has not set .venv up here, and a test must not install anything")
    return subprocess.run(
        [str(REPOSITORY / "submit.sh"), *words],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def test_help_lists_every_job():
    shown = submit("help")
    assert shown.returncode == 0
    for job in (
        "pipeline",
        "ingest",
        "embed",
        "tensors",
        "train",
        "score",
        "evaluate",
        "export",
        "demo",
        "doctor",
        "served",
        "rollback",
    ):
        assert f"\n        {job} " in shown.stdout or f"jobs    {job} " in shown.stdout


def test_an_unknown_job_is_usage():
    refused = submit("pipelin")
    assert refused.returncode == 2
    assert "unknown job pipelin" in refused.stderr


FEW = [f"--ignore=tests/{folder}" for folder in ("clusters", "contract", "faults", "unit")]


@pytest.mark.parametrize(
    ("words", "is_there"),
    [
        (FEW, False),  # options of pytest keep the lane of every change
        (["--all", *FEW], True),
        (["-m", "slow", *FEW], True),
        (["tests/jobs/test_kinds.py"], True),
    ],
)
def test_slow_tests_are_run_where_they_are_asked_for(words: list[str], is_there: bool):
    assert ("test_kinds" in submit("test", *words, "--collect-only", "-q").stdout) == is_there


def test_a_bad_setting_is_one_sentence_and_exit_2(tmp_path: Path):
    refused = submit("ingest", "--set", "train.rnks=2", "--set", f"workspace={tmp_path}")
    assert refused.returncode == 2
    assert refused.stdout.splitlines()[0] == ("failed (exit 2): unknown setting train.rnks (did you mean train.ranks?)")
    assert "Traceback" not in refused.stdout + refused.stderr


def test_exit_codes_pass_through_spark_submit(tmp_path: Path):
    words = ("--set", f"workspace={tmp_path / 'ws'}", "--set", f"inputs.root={tmp_path / 'none'}")
    refused = submit("ingest", *words)
    assert refused.returncode == 3, refused.stderr
    assert "does not exist" in refused.stdout
    assert (tmp_path / "ws" / "runs" / "latest" / "run_result.json").is_file()


def test_doctor_finds_the_machine_that_runs_the_tests_well(tmp_path: Path):
    examined = submit("doctor", "--set", f"workspace={tmp_path}", "--set", "train.ranks=1")
    for name in ("python", "java", "packages", "horovod", "workspace", "loopback", "spark settings"):
        assert f"  ok    {name}" in examined.stdout, examined.stdout


def test_plan_says_what_would_run_and_changes_nothing(tmp_path: Path):
    planned = submit("plan", "--set", f"workspace={tmp_path / 'ws'}")
    assert planned.returncode == 0
    assert "demo shop would be made" in planned.stdout
    assert not (tmp_path / "ws").exists()


def test_a_cluster_without_the_folder_of_its_settings_is_refused_before_java_starts():
    refused = submit(
        "ingest",
        "--spark-conf",
        str(REPOSITORY / "conf" / "spark" / "yarn.conf"),
        "--set",
        "workspace=hdfs:///user/me/ws",
    )
    assert refused.returncode == 2
    assert "HADOOP_CONF_DIR is not set" in refused.stderr


def test_a_spark_that_cannot_start_is_told_of_with_exit_2(tmp_path: Path, shop: Path):
    conf = tmp_path / "spark.conf"
    conf.write_text("spark.master nowhere\n")
    words = ("--set", f"workspace={tmp_path / 'ws'}", "--set", f"inputs.root={shop}")
    refused = submit("ingest", "--spark-conf", str(conf), *words)
    assert refused.returncode == 2, refused.stdout
    assert "failed (exit 2): Spark could not be started" in refused.stdout


@pytest.mark.slow
def test_letters_of_any_language_may_stand_in_paths_whatever_the_locale(tmp_path: Path, shop: Path):
    root = tmp_path / "größe 大" / "shop"
    shutil.copytree(shop, root)
    words = ("--set", f"workspace={root.parent / 'wörk'}", "--set", f"inputs.root={root}")
    made = submit("ingest", *words, LC_ALL="C", LANG="C")
    assert made.returncode == 0, made.stdout + made.stderr
    assert (root.parent / "wörk" / "runs" / "latest" / "run_result.json").is_file()
