"""Real stores on loopback for tests: an S3 of moto's, and a small HDFS. Each starts once a session and ends with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import fsspec
import mini_hadoop
import pytest

from crossweave.storage.location import Location

SECONDS = 60  # for a server to answer
WRONG = "wrong"
"""An access key that the server refuses."""

RACED = "raced"
"""The name of an object of which the server says, once, that another writer creates it at the moment."""


@dataclass(frozen=True)
class S3Server:
    """Where it answers, and how its clients must be told."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a client."""
        return {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """Return a client of another make than the house's."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
        )


@dataclass(frozen=True)
class Hadoop:
    """Where HDFS answers, and the folder that HADOOP_CONF_DIR and YARN_CONF_DIR of a client name."""

    url: str
    conf: Path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The S3 of all tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, __file__, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = S3Server(f"http://127.0.0.1:{port}")
    try:
        _wait_for(server.url, process)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Location:
    """An empty bucket of the test's own; the environment says how to get there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"tests-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=bucket)
    return Location.of(f"s3://{bucket}")


@pytest.fixture
def new_clients() -> Iterator[None]:
    """Let a test's changes of the environment reach the clients, which are kept otherwise."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="session")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hadoop]:
    """The HDFS and YARN of all tests; skips where their jars cannot be had."""
    try:
        process, url, conf = mini_hadoop.start(tmp_path_factory.mktemp("hadoop"), nodes=2)
    except OSError as error:
        pytest.skip(str(error))
    try:
        yield Hadoop(url, conf)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(SECONDS)


@pytest.fixture
def hdfs(hadoop: Hadoop, monkeypatch: pytest.MonkeyPatch) -> Location:
    """A folder of the test's own in HDFS, which is not there yet; the environment says how to get there."""
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hadoop.conf))
    return Location.of(f"{hadoop.url}/tests/{uuid.uuid4().hex[:12]}")


@pytest.fixture(params=["disk", "s3", "hdfs"])
def root(request: pytest.FixtureRequest) -> Location:
    """A folder of the test's own in every kind of store, one after the other."""
    if request.param == "disk":
        return Location.of(request.getfixturevalue("tmp_path")) / "root"
    place: Location = request.getfixturevalue(request.param)
    return place


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise OSError(f"no server answers at {url}")


def serve(port: int) -> None:
    """Run moto's S3 until stdin ends; what it decides by what is there, it decides for one request at a time."""
    import threading

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    moto, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()

    raced: list[bool] = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        def say(status: str, code: str) -> list[bytes]:
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]

        if f"Credential={WRONG}/" in environ.get("HTTP_AUTHORIZATION", ""):
            return say("403 Forbidden", "InvalidAccessKeyId")
        if "HTTP_IF_NONE_MATCH" in environ and environ["PATH_INFO"].endswith(RACED) and not raced:
            raced.append(True)
            return say("409 Conflict", "ConditionalRequestConflict")
        if environ["REQUEST_METHOD"] == "PUT":
            with alone:
                return moto(environ, start_response)
        return moto(environ, start_response)

    def leave() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=leave, daemon=True).start()
    run_simple("127.0.0.1", port, application, threaded=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
