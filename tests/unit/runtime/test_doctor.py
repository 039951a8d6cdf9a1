"""What doctor says of a workspace in a store."""

from __future__ import annotations

import pytest

from crossweave.runtime.doctor import _workspace
from crossweave.runtime.stores_of_spark import jars_for, store_settings
from crossweave.storage.bucket import Bucket
from crossweave.storage.location import Location


def test_a_bucket_that_refuses_a_second_conditional_put_is_well_and_left_as_it_was(s3: Location) -> None:
    found = _workspace(s3 / "ws")
    assert found.ok
    assert found.found.startswith(f"{s3}ws can be written; Spark gets org.apache.hadoop:hadoop-aws")
    assert list(s3.walk()) == []


def test_a_store_that_puts_twice_is_told_of(s3: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "create", lambda store, path, data: store.put(path, data) or True)
    found = _workspace(s3 / "ws")
    assert (found.ok, found.found) == (False, f"{s3}ws puts twice")


def test_a_bucket_that_is_not_there_is_named_with_what_to_do(s3: Location) -> None:
    found = _workspace(Location.of("s3://nowhere-to-be-found/ws"))
    assert not found.ok
    assert "nowhere-to-be-found" in found.found
    assert found.mend


def test_spark_is_told_of_a_store_what_the_environment_says() -> None:
    plain = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "AWS_REGION": "eu-central-1", "HOME": "/root"}
    told = store_settings({"file", "s3"}, plain)
    assert told["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:9000"
    assert told["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert told["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "false"
    assert told["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"
    assert told["spark.executorEnv.AWS_REGION"] == "eu-central-1"
    assert "spark.executorEnv.HOME" not in told
    assert "spark.hadoop.fs.s3a.endpoint" not in store_settings({"s3"}, {"AWS_REGION": "us-east-1"})
    assert store_settings({"file"}, {}) == jars_for({"file", "hdfs"}) == {}
    assert "hadoop-aws" in jars_for({"s3"})["spark.jars.packages"]
