"""Input tables in a store: found, checked, stamped and refused as the same tables on a disk are.

Spark reads `s3a` only with hadoop-aws on its class path, which the session of the tests has not: what comes before
Spark is tested here, against a real server on the loopback.
"""

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
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from crossweave.errors import InputContractError
from crossweave.storage.bucket import Bucket
from crossweave.storage.location import Location
from crossweave.tables.contract import ID, TEXT
from crossweave.tables.footers import Footers, InputTable, preflight
from crossweave.tables.input_files import find_files
from crossweave.tables.paths import spark_path
from crossweave.tables.source import _relative

COLUMNS = {"id": ID, "brand": TEXT}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3, with a bucket of its own."""
    boto3, s3fs = pytest.importorskip("boto3"), pytest.importorskip("s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        for key, value in own.items():
            patch.setenv(key, value)
        s3fs.S3FileSystem.clear_instance_cache()  # which may know another server
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            boto3.client("s3").create_bucket(Bucket="shop")
            yield "s3://shop"
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.terminate()
            server.wait()


Both = tuple[Path, Location]


@pytest.fixture
def both(s3: str, tmp_path: Path, request: pytest.FixtureRequest) -> Both:
    """A folder, and a place in the store where `same` puts what it holds."""
    return tmp_path / "in", Location.of(f"{s3}/{abs(hash(request.node.name))}/in")


def write(path: Path, columns: dict[str, object], **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **how)
    return path


def same(both: Both) -> Both:
    """Make the place in the store hold what the folder holds."""
    folder, place = both
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            (place / file.relative_to(folder).as_posix()).put(file.read_bytes())
    return both


def shown(table: InputTable) -> dict[str, object]:
    """What of a table is not where it lies and when it was written."""
    own = vars(table) | {"root": None, "stamps": list(table.stamps), "parts": None}
    own["files"] = [file.below(table.root) for file in table.files]
    own["parts"] = [(p.files, {n: c and (c.path, c.stored.words) for n, c in p.columns.items()}) for p in table.parts]
    return own | {"size": table.size, "types": table.types}


def refusals(folder: Path, place: Location, below: str = "") -> list[str]:
    """The messages about both, each with its place taken out."""
    found = []
    for root in (str(folder), str(place)):
        with pytest.raises(InputContractError) as caught:
            preflight("items", f"{root}/{below}" if below else root, COLUMNS)
        found.append(caught.value.message.replace(str(root), "ROOT"))
    return found


def test_a_table_is_the_same_on_a_disk_and_in_a_store(both: Both) -> None:
    folder, _ = both
    write(folder / "brand=Acme%2FCo" / "a [1]{x}*?#%20+ü.parquet", {"id": [1, 2]})
    write(folder / "brand=Acme-b" / "z.parq", {"id": [3]})
    write(folder / "brand=Acme" / "b.PQ", {"id": pa.array([3], pa.int32()), "more": ["x"]})
    write(folder / "000000_0", {"id": [4], "brand": ["own"]})
    for hidden in (
        "notes.txt",
        "_SUCCESS",
        "_temporary/0/x.parquet",
        ".a.crc",
        "_old/x/a.parquet",
        "_old/_delta_log/0",
    ):
        (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
        (folder / hidden).write_bytes(b"torn")
    folder, place = same(both)
    on_disk, stored = (preflight("items", str(root), COLUMNS) for root in (folder, place))
    assert shown(on_disk) == shown(stored)
    assert stored.passed_over == ("_old", "notes.txt")
    assert on_disk.rows == 5 and len(stored.parts) == 3
    assert str(stored.root) == str(place)
    one = [preflight("items", f"{root}/brand=Acme/b.PQ", {"id": ID}) for root in (folder, place)]
    assert shown(one[0]) == shown(one[1])


def test_a_bucket_may_be_a_table_and_its_folders_marks_are_no_files(s3: str) -> None:
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="whole")
    for key in ("day=1/", "day=1_$folder$"):
        client.put_object(Bucket="whole", Key=key, Body=b"")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [1], "brand": ["b"]}), sink)
    client.put_object(Bucket="whole", Key="day=1/a.parquet", Body=sink.getvalue().to_pybytes())
    table = preflight("items", "s3a://whole", COLUMNS)
    assert (list(table.stamps), table.passed_over, table.rows) == (["day=1/a.parquet"], (), 1)
    assert [str(file) for file in table.files] == ["s3://whole/day=1/a.parquet"]
    client.put_object(Bucket="whole", Key="day=1//b.parquet", Body=b"PAR1")
    with pytest.raises(InputContractError, match="part of its path that is empty"):
        find_files("items", "s3://whole")


def test_stamps_follow_contents_and_those_of_a_disk_are_as_receipts_hold_them(both: Both) -> None:
    folder, place = both
    path = write(folder / "a.parquet", {"id": [1], "brand": ["b"]})
    same(both)
    stat = path.stat()
    on_disk = preflight("items", str(folder), COLUMNS)
    assert on_disk.stamps == {"a.parquet": f"{stat.st_size}-{stat.st_mtime_ns}"}
    first = preflight("items", str(place), COLUMNS)
    assert preflight("items", f"s3a://{place.host}{place.path}/", COLUMNS).fingerprint == first.fingerprint
    write(path, {"id": [1], "brand": ["c"]})
    same(both)
    assert path.stat().st_size == stat.st_size
    again = preflight("items", str(place), COLUMNS)
    assert again.stamps != first.stamps and again.fingerprint != first.fingerprint


def test_the_fingerprint_of_a_disk_s_table_is_that_of_earlier_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("day-1/a.parquet", "day/b.parquet"):  # by parts, day stands before day-1
        os.utime(write(tmp_path / name, {"id": [1], "brand": ["b"]}, compression="none"), ns=(5, 5))
    monkeypatch.setattr("crossweave.tables.footers.digest", lambda value: value)
    monkeypatch.chdir(tmp_path.parent)
    root, stamps = preflight("items", tmp_path.name, COLUMNS).fingerprint  # type: ignore[misc]
    size = (tmp_path / "day" / "b.parquet").stat().st_size
    assert (root, list(stamps.items())) == (
        str(tmp_path), [("day/b.parquet", f"{size}-5"), ("day-1/a.parquet", f"{size}-5")]
    )  # fmt: skip


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(b"PAR1"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "torn footer": lambda path: path.write_bytes(path.read_bytes()[:-60] + b"\0" * 52 + path.read_bytes()[-8:]),
    "footer beyond the file": lambda path: path.write_bytes(b"PAR1" + b"\xff\xff\xff\x00PAR1"),
    "encrypted": lambda path: path.write_bytes(b"PARE" * 9),
    "no column": lambda path: write(path, {"id": [1]}),
    "wrong type": lambda path: write(path, {"id": [1.5], "brand": ["b"]}),
    "two types": lambda path: write(path, {"id": ["x"], "brand": ["b"]}),
    "pages": lambda path: write(path, {"id": [1], "brand": ["b"]}, compression="brotli"),
    "packed": lambda path: path.rename(path.with_name("b.parquet.gz")),
    "other name": lambda path: path.rename(path.with_name("b.data")),
    "truncated without an ending": lambda path: path.write_bytes(b"PAR1xxxxxxxx") and path.rename(path.with_name("b")),
    "half copied": lambda path: path.rename(path.with_name("b.parquet._COPYING_")),
    "colon": lambda path: path.rename(path.with_name("b:1.parquet")),
    "delta": lambda path: write(path.parent / "x" / "_delta_log" / "0.json", {"id": [1]}),
    "iceberg": lambda path: write(path.parent / "x" / "metadata" / "v1.metadata.json", {"id": [1]}),
    "packed iceberg": lambda path: write(path.parent / "metadata" / "v1.metadata.json.gz", {"id": [1]}),
    "hudi": lambda path: write(path.parent / ".hoodie" / "hoodie.properties", {"id": [1]}),
    "stream": lambda path: write(path.parent / "_spark_metadata" / "0", {"id": [1]}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_is_refused_in_the_same_words(both: Both, damage: str) -> None:
    folder, _ = both
    write(folder / "a.parquet", {"id": [1], "brand": ["b"]})
    DAMAGES[damage](write(folder / "b.parquet", {"id": [1], "brand": ["b"]}))
    on_disk, stored = refusals(*same(both))
    assert on_disk == stored and "ROOT" in stored


def test_no_such_path_nothing_but_hidden_files_and_a_hidden_file_are_refused_alike(both: Both) -> None:
    folder, place = both
    write(folder / "_x" / "a.parquet", {"id": [1]})
    write(folder / "_a.parquet", {"id": [1]})
    same(both)
    for below, words in (("", "holds no .parquet file; it holds _a.parquet, _x"), ("no", "does not exist")):
        on_disk, stored = refusals(folder, place, below)
        assert on_disk == stored and words in stored
    assert "Spark passes over" in refusals(folder, place, "_a.parquet")[1]


@pytest.mark.parametrize("keeper", ["_delta_log/0.json", "metadata/v1.metadata.json", ".hoodie/x", "_spark_metadata/0"])
def test_a_part_of_a_table_with_a_log_is_refused_up_to_the_root_of_the_bucket(both: Both, keeper: str) -> None:
    folder, place = both
    write(folder / "data" / "day=1" / "a.parquet", {"id": [1], "brand": ["b"]})
    write(folder / keeper, {"id": [1]})
    same(both)
    for below in ("data", "data/day=1", "data/day=1/a.parquet"):
        on_disk, stored = refusals(folder, place, below)
        assert on_disk == stored and stored.startswith("the items table: ROOT is ")
    place.remove()
    (place / "data/a.parquet").put((folder / "data" / "day=1" / "a.parquet").read_bytes())
    top = Location("s3", place.host, "/") / keeper
    top.put(b"x")
    try:
        with pytest.raises(InputContractError, match=f"s3://{place.host}/ is "):
            preflight("items", str(place / "data"), COLUMNS)
    finally:
        top.remove()


def test_rights_that_begin_at_the_table_are_enough(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, place = both
    write(folder / "a.parquet", {"id": [1], "brand": ["b"]})
    same(both)
    names = Bucket.names

    def closed_above(store: Bucket, path: str) -> list[str]:
        with store._speaking():
            if not path.startswith(place.path):
                raise PermissionError("AccessDenied")
        return names(store, path)

    monkeypatch.setattr(Bucket, "names", closed_above)
    assert preflight("items", str(place), COLUMNS).rows == 1


def test_a_name_that_is_a_file_and_a_folder_is_refused(both: Both) -> None:
    _, place = both
    (place / "items").put(b"PAR1")
    (place / "items/a.parquet").put(b"PAR1")
    with pytest.raises(InputContractError, match="a file and a folder at once"):
        find_files("items", str(place / "items"))


def test_a_footer_is_one_request_and_a_long_one_two(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, place = both
    write(folder / "a.parquet", {"id": range(200_000), "brand": ["b"] * 200_000})
    write(folder / "b.parquet", {"id": [1], "brand": ["b"]} | {f"column {n:05}": [n] for n in range(2_000)})
    same(both)
    asked: list[str] = []
    piece = Bucket.piece
    monkeypatch.setattr(Bucket, "piece", lambda *how: (asked.append(how[1][-9:]), piece(*how))[1])
    monkeypatch.setattr(Bucket, "open", None)
    assert Footers("items", str(place)).rows == 200_001
    assert sorted(asked) == ["a.parquet", "b.parquet", "b.parquet"]


def test_spark_s_names_of_files_in_a_store_are_those_of_the_stamps(spark: SparkSession) -> None:
    """How Spark calls them: `s3a://` and percent escapes."""
    for root, uri in (
        ("s3://shop/in/ä b", "s3a://shop/in/%C3%A4%20b/day=1/a%20%5B1%5D+%25.parquet"),
        ("s3://shop", "s3a://shop/day=1/a%20%5B1%5D+%25.parquet"),
        ("abfs://c@acc.dfs.core.windows.net/in", "abfss://c@acc.dfs.core.windows.net/in/day=1/a%20%5B1%5D+%25.parquet"),
        ("hdfs://node:8020/in", "hdfs://node:8020/in/day=1/a%20%5B1%5D+%25.parquet"),
        ("/in [1]", "file:///in%20%5B1%5D/day=1/a%20%5B1%5D+%25.parquet"),
    ):
        place = Location.of(root)
        row = spark.range(1).select(_relative(place, F.lit(uri)).alias("file")).first()
        assert row is not None and row["file"] == "day=1/a [1]+%.parquet"
        assert spark_path(place / "x").rpartition("/")[0].split(":")[0] == uri.split(":")[0]
