"""What a store that cannot be used says, and how soon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import RACED, WRONG

from crossweave.errors import SettingsError, TryAgainError
from crossweave.storage.location import Location

SOON = 25  # seconds
VERBS: dict[str, Callable[[Location], object]] = {
    "entry": Location.entry,
    "children": Location.children,
    "walk": lambda place: list(place.walk()),
    "read": Location.read,
    "open": Location.open,
    "download": lambda place: place.download(Path(os.devnull)),
    "put": lambda place: place.put("x"),
    "create": lambda place: place.create("x"),
    "upload": lambda place: place.upload(Path(__file__)),
    "remove": Location.remove,
}
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@every_verb
def test_a_bucket_that_is_not_there_is_named(s3: Location, verb: Callable[[Location], object]) -> None:
    with pytest.raises(SettingsError, match="s3://not-there-at-all does not exist") as caught:
        verb(Location.of("s3://not-there-at-all/x"))
    assert "make the bucket" in caught.value.hint


@every_verb
def test_wrong_credentials_are_refused(
    s3: Location, new_clients: None, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Location], object]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRONG)
    with pytest.raises(SettingsError, match=f"s3://{s3.host} refuses") as caught:
        verb(s3 / "x")
    assert "credentials" in caught.value.hint


def test_no_credentials_are_told(
    s3: Location, new_clients: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="there are no credentials") as caught:
        (s3 / "x").put("x")
    assert "export" in caught.value.hint


def test_an_s3_where_nobody_listens_is_told_soon(
    s3: Location, new_clients: None, monkeypatch: pytest.MonkeyPatch, nobody: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{nobody}")
    start = time.monotonic()
    with pytest.raises(TryAgainError, match="does not answer") as caught:
        (s3 / "x").entry()
    assert time.monotonic() - start < SOON
    assert "run the same command again" in caught.value.hint


def test_an_hdfs_where_nobody_listens_is_told_soon(nobody: str) -> None:
    start = time.monotonic()
    with pytest.raises(TryAgainError, match=f"hdfs://{nobody} does not answer"):
        Location.of(f"hdfs://{nobody}/x").entry()
    assert time.monotonic() - start < SOON


def test_a_host_that_has_no_address_is_told() -> None:
    with pytest.raises(TryAgainError, match="does not answer"):
        Location.of("hdfs://no-such-host.invalid:8020/x").entry()


def test_two_who_create_an_object_at_the_same_moment_are_asked_again(s3: Location) -> None:
    assert (s3 / RACED).create("x")
    assert not (s3 / RACED).create("y")
    assert (s3 / RACED).text() == "x"


@pytest.mark.parametrize("root", ["s3", "hdfs"], indirect=True)
def test_a_missing_source_or_target_of_this_machine_is_no_fault_of_the_store(root: Location, tmp_path: Path) -> None:
    (root / "x").put("x")
    with pytest.raises(FileNotFoundError, match="missing"):
        (root / "y").upload(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="missing"):
        (root / "x").download(tmp_path / "missing" / "x")
    assert [place.name for place in root.children()] == ["x"]


def test_a_full_disk_leaves_no_draft_and_is_no_fault_of_the_store(s3: Location) -> None:
    (s3 / "x").put("x" * 10_000)
    with pytest.raises(OSError, match="No space left"):
        (s3 / "x").download(Path("/dev/full"))


def test_a_failed_write_to_disk_leaves_no_draft(tmp_path: Path) -> None:
    place = Location.of(tmp_path / "folder")
    (place / "file").put("x")
    for verb in (lambda: place.put("x"), lambda: place.upload(tmp_path / "missing")):
        with pytest.raises(OSError, match=r"folder|missing"):
            verb()
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]


def test_hdfs_says_that_it_has_no_such_names(hdfs: Location) -> None:
    (hdfs / "file").put("x")
    for place in (hdfs / "a:b", hdfs / "file" / "below", hdfs):
        for verb in (place.put, place.create):
            with pytest.raises(SettingsError):
                verb("x")
    assert [place.name for place in hdfs.children()] == ["file"]


def test_hdfs_refuses_whom_it_does_not_let_in(hdfs: Location) -> None:
    (hdfs / "file").put("x")
    code = f"from crossweave.storage.location import Location; Location.of('{hdfs}/file').put('y')"
    environment = {**os.environ, "HADOOP_USER_NAME": "somebody"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "SettingsError" in found.stderr.splitlines()[-1]
    assert "refuses" in found.stderr.splitlines()[-1]


def test_a_store_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    with pytest.raises(SettingsError, match="needs the package hdfs-native"):
        Location.of("hdfs://service-without-package/x").entry()


def test_a_file_of_hdfs_tells_how_far_it_is_written_as_petastorm_asks(hdfs: Location) -> None:
    files, schema = hdfs.store.for_pyarrow, pa.schema([("item", pa.int64())])
    with files.open(f"{hdfs.path}/_common_metadata", "wb") as stream:
        pq.write_metadata(schema, stream)
        assert stream.tell() > 0
    with files.open(f"{hdfs.path}/_common_metadata", "rb") as stream:
        assert pq.read_schema(stream) == schema
