"""What travels with a job whose driver runs on a cluster, and how its end is found."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from conftest import CONF

from crossweave.config import load_settings
from crossweave.errors import SettingsError, TryAgainError
from crossweave.runtime.cluster_mode import _handed, _record, _tell, _without_record
from crossweave.runtime.result import RunResult
from crossweave.runtime.run import RUN_TOKEN
from crossweave.runtime.spark_conf import read_spark_conf, spark_conf_text
from crossweave.storage.location import Location

URL = ["workspace=s3://shop/ws"]


def test_settings_files_go_along_and_the_night_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("tracking: {wandb: {project: '${oc.env:SHOP_PROJECT}'}}\n")
    for name, value in {"SHOP_PROJECT": "shop", "SHOP_SEED": "5", "AWS_REGION": "eu", "PRIVATE": "x"}.items():
        monkeypatch.setenv(name, value)
    words = ["--conf", str(CONF / "local.yaml"), "--set", URL[0], f"--conf={mine}", "--set", "seed=${oc.env:SHOP_SEED}"]
    given = {"spark.yarn.appMasterEnv.AWS_REGION": "own", "spark.executor.memory": "1g"}
    handed = _handed(load_settings([CONF / "local.yaml"], URL), words, given, "abc123")
    assert handed.words[:4] == ["--conf", "settings-0.yaml", "--conf", "settings-1.yaml"]
    assert handed.words[4:] == ["--set", URL[0], "--set", "seed=${oc.env:SHOP_SEED}"]
    assert handed.files == [f"{CONF / 'local.yaml'}#settings-0.yaml", f"{mine}#settings-1.yaml"]
    prefix = "spark.yarn.appMasterEnv."
    told = {key.removeprefix(prefix): value for key, value in handed.settings.items() if key.startswith(prefix)}
    assert told["SHOP_PROJECT"] == "shop"
    assert (told["SHOP_SEED"], told[RUN_TOKEN], told["AWS_REGION"]) == ("5", "abc123", "own")
    assert "PRIVATE" not in told
    assert handed.settings["spark.executor.memory"] == "1g"
    assert any("hadoop-aws" in handed.settings.get(name, "") for name in ("spark.jars", "spark.jars.packages"))


def test_without_conf_files_the_embedded_default_goes_along() -> None:
    handed = _handed(load_settings([CONF / "local.yaml"], URL), [], {}, "abc123")
    assert handed.files == [f"{CONF / 'local.yaml'}#settings-0.yaml"]


@pytest.mark.parametrize(
    "pair", ["workspace=ws", "inputs.root=in", "export.path=out", "inputs.users.path=users.parquet"]
)
def test_paths_of_this_folder_mean_nothing_elsewhere(pair: str) -> None:
    settings = load_settings([CONF / "local.yaml"], ["workspace=/ws", pair])
    with pytest.raises(SettingsError, match="is relative to this folder"):
        _handed(settings, [], {}, "abc123")


def test_the_record_of_the_driver_that_was_begun_last_tells_the_end(tmp_path: Path) -> None:
    runs, said = Location.of(tmp_path / "ws") / "runs", list[str]()
    assert _record(Location.of(tmp_path / "ws"), "abc123") is None
    names = ["20260101T000000-ingest-abc123", "20260102T000000-ingest-abc123", "20260103T000000-ingest-ffffff"]
    for name in names:
        result = RunResult(runs / name, name, "ingest", load_date())
        result.fail(SettingsError("no such thing", "write it"))
        result.write()
    place = _record(Location.of(tmp_path / "ws"), "abc123")
    assert place == runs / names[1] / "run_result.json"
    assert _tell(place, said.append) == 2
    assert said == [f"crossweave ingest · 2026-01-02 · run {names[1]}", "failed (exit 2): no such thing",
                    "what to do: write it", f"record: {place}"]  # fmt: skip


def load_date() -> datetime.date:
    return datetime.date(2026, 1, 2)


def test_where_there_is_no_record_the_application_or_the_client_says_why() -> None:
    begun = _without_record("application_1_1", [])
    assert isinstance(begun, SettingsError)
    assert "yarn logs -applicationId application_1_1" in begun.hint
    refused = _without_record("", ["log", "Exception in thread main java.net.ConnectException: refused", "at x.Y"])
    assert isinstance(refused, TryAgainError)
    assert "ConnectException: refused" in refused.message


def test_spark_conf_is_read_as_spark_reads_it_and_written_so_that_it_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "spark.conf"
    path.write_text(
        "# spark.a no\n! spark.b no\n\nspark.c  x y \nspark.d=1\nspark.e : 2\nspark.f\nspark.d 3\n"
        "spark.g a\\\n  b\nh \\\\n\n"
    )
    read = read_spark_conf(path)
    assert read == {"spark.c": "x y", "spark.d": "3", "spark.e": "2", "spark.f": "", "spark.g": "ab", "h": "\\n"}
    path.write_text(spark_conf_text(read | {"i": "line\nline"}))
    assert read_spark_conf(path) == read | {"i": "line\nline"}
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_spark_conf(tmp_path / "none")
