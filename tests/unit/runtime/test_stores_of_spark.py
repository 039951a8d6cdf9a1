"""What Spark is told of stores, beside what the user tells it."""

from __future__ import annotations

from pathlib import Path

from crossweave.runtime.spark_conf import given_settings
from crossweave.runtime.stores_of_spark import S3_JARS, beside, jars_for, store_settings

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1"}


def kept(folder: Path) -> Path:
    for name in S3_JARS:
        (folder / name).touch()
    return folder


def test_jars_that_were_fetched_before_are_named_themselves_so_that_ivy_has_nothing_to_say(tmp_path: Path) -> None:
    wanted = jars_for({"s3"})
    assert beside(wanted, {}, tmp_path) == wanted
    (option, jars), *others = beside(wanted, {}, kept(tmp_path)).items()
    assert (option, len(jars.split(",")), others) == ("spark.jars", len(S3_JARS), [])
    (tmp_path / S3_JARS[-1]).unlink()
    assert beside(wanted, {}, tmp_path) == wanted


def test_what_the_user_wants_of_spark_is_kept_beside_the_client_of_s3(tmp_path: Path) -> None:
    wanted, folder = jars_for({"s3"}), kept(tmp_path)
    assert beside(wanted, {"spark.jars": "own.jar"}, folder)["spark.jars"].startswith("own.jar,")
    packages = beside(wanted, {"spark.jars.packages": "org.example:own:1"}, folder)
    assert packages["spark.jars.packages"] == f"org.example:own:1,{wanted['spark.jars.packages']}"
    assert beside(wanted, {"spark.jars.packages": "org.apache.hadoop:hadoop-aws:3.4.1"}, folder) == {}
    assert beside(jars_for({"file"}), {}, folder) == {}


def test_settings_are_read_from_the_words_of_a_spark_submit(tmp_path: Path) -> None:
    (tmp_path / "spark.conf").write_text("spark.jars.packages org.example:own:1\nspark.jars = own.jar\n# spark.a b\n")
    words = ["--properties-file", str(tmp_path / "spark.conf"), "--conf", "spark.b=c=d", "--jars", "other.jar", "shell"]
    assert given_settings(words) == {
        "spark.jars.packages": "org.example:own:1",
        "spark.jars": "other.jar",
        "spark.b": "c=d",
    }


def test_only_executors_elsewhere_are_handed_credentials() -> None:
    elsewhere, here = (store_settings({"s3"}, KEYS, executors) for executors in (True, False))
    assert {name for name in elsewhere if "executorEnv" in name} == {f"spark.executorEnv.{name}" for name in KEYS}
    assert not [name for name in here if "executorEnv" in name]
    assert here["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"
