"""What a failure is: told by type, error number and Java class, on the driver, in the JVM and in workers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession

from crossweave.errors import InputContractError, SettingsError, TableError, TryAgainError
from crossweave.runtime.faults import BY_NUMBER, of_worker, translate
from crossweave.runtime.jvm import Throwable, throwables
from crossweave.storage.location import Location

FRAME = "org.apache.spark.sql.execution.datasources.FileScanRDD"


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [
        (errno.ENOSPC, TryAgainError, "disk is full"),
        (errno.EDQUOT, TryAgainError, "quota"),
        (errno.EROFS, TryAgainError, "read-only"),
        (errno.EMFILE, TryAgainError, "file handles"),
        (errno.ENFILE, TryAgainError, "file handles"),
        (errno.ENOMEM, TryAgainError, "memory"),
        (errno.EAGAIN, TryAgainError, "processes"),
        (errno.EADDRNOTAVAIL, TryAgainError, "port"),
        (errno.ECONNREFUSED, TryAgainError, "connection"),
        (errno.EIO, TryAgainError, "disk"),
        (errno.EACCES, SettingsError, "rights"),
        (errno.ENOTDIR, SettingsError, "a file is where a folder should be"),
        (errno.EISDIR, SettingsError, "a folder is where a file should be"),
        (errno.ENAMETOOLONG, SettingsError, "too long"),
    ],
)
def test_what_the_system_refuses_is_named_wherever_it_was_refused(number: int, kind: type, word: str) -> None:
    said = os.strerror(number)
    raised = OSError(number, said, "/ws/x")
    wrapped = RuntimeError("it failed")
    wrapped.__cause__ = raised
    in_worker = of_worker(
        f'Traceback (most recent call last):\n  File "a.py", line 1\nOSError: [Errno {number}] {said}'
    )
    of_delta = translate(ValueError(f"Generic LocalFileSystem error: {said} (os error {number})"))
    for named in (translate(raised), translate(wrapped), in_worker, of_delta):
        assert type(named) is kind
        assert word in named.message
        assert named.hint
    assert "/ws/x" in translate(raised).message


def test_what_the_jvm_was_refused_is_named_by_the_end_of_its_message() -> None:
    for number in (errno.ENOSPC, errno.EMFILE, errno.EROFS, errno.EACCES, errno.EISDIR):
        for message in (os.strerror(number), f"/ws/part ({os.strerror(number)})"):
            assert Throwable("java.io.FileNotFoundException", message).number == number
            assert number in BY_NUMBER
    assert Throwable("java.lang.RuntimeException", "Permission denied").number is None
    assert Throwable("java.io.IOException", "Permission denied by the shop's rules").number is None
    assert Throwable("org.apache.hadoop.fs.ParentNotDirectoryException", "file:/x").number == errno.ENOTDIR


@pytest.mark.parametrize(
    "error",
    [
        ValueError("an ordinary mistake"),
        ZeroDivisionError("division by zero"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"),
        RuntimeError("crossweave.errors.NoSuchError: x"),
        RuntimeError("a user wrote: No space left on device, Could not read footer"),
        AssertionError(),
    ],
)
def test_a_bug_stays_a_bug_whatever_its_words(error: Exception) -> None:
    assert translate(error) is None


def test_a_folder_that_was_to_be_new_is_no_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert translate(FileExistsError(errno.EEXIST, "File exists", str(tmp_path))) is None
    assert type(translate(FileExistsError(errno.EEXIST, "File exists", str(tmp_path / "file")))) is SettingsError


def test_too_little_memory_is_named_in_python_numpy_torch_and_arrow() -> None:
    import torch

    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (MemoryError(), pa.ArrowMemoryError("realloc of size 9 failed"), of_torch.value):
        assert "memory" in translate(error).message, error


def test_a_write_of_numpy_that_fell_short_is_a_full_disk() -> None:
    assert "disk is full" in translate(OSError("12800 requested and 512 written")).message


def test_a_lost_executor_and_a_stopped_spark_are_reasons_to_try_again() -> None:
    lost = (
        "Job aborted due to stage failure: Task 3 in stage 7.0 failed 4 times, most recent failure: Lost task 3.3 in "
        "stage 7.0 (TID 9) (10.0.0.7 executor 2): ExecutorLostFailure (executor 2 exited caused by one of the running "
        "tasks) Reason: Command exited with code 137"
    )
    assert Throwable("org.apache.spark.SparkException", lost).lost_worker
    assert not Throwable("org.apache.spark.SparkException", "a user's ExecutorLostFailure").lost_worker
    gone = "Job aborted due to stage failure: ResultStage 15 (parquet at X) has failed the maximum allowable number of "
    for kind in ("", "Metadata"):  # the rows that an executor had shuffled went with it, four times
        name = f"org.apache.spark.shuffle.{kind}FetchFailedException"
        why = f"{gone}times: 4. Most recent failure reason:\n{name}\n\tat org.apache.spark.errors"
        assert Throwable("org.apache.spark.SparkException", why).lost_worker
    stopped = Throwable(
        "java.lang.IllegalStateException",
        "Cannot call methods on a stopped SparkContext.",
        ["org.apache.spark.SparkContext"],
    )
    assert stopped.lost_jvm


def test_a_damaged_file_of_a_store_is_named_as_users_write_it_and_a_table_s_is_said_to_be_one(s3: Location) -> None:
    (s3 / "ws/tables/catalog/_delta_log/0.json").put("{}")
    spoken, path = f"s3a://{s3.host}", "ws/tables/catalog/part.parquet"
    for place, kind in ((f"{spoken}/{path}", TableError), (f"{spoken}/shop/items.parquet", InputContractError)):
        for found in (
            Throwable("java.lang.RuntimeException", f"{place} is not a Parquet file", ["org.apache.parquet.hadoop.X"]),
            Throwable("org.apache.spark.SparkException", "", error_class="CANNOT_READ_FILE_FOOTER",
                      parameters={"file": place}),
        ):  # fmt: skip
            assert found.file == place.replace("s3a:", "s3:")
            assert type(found.damage()) is kind


def test_a_file_that_is_damaged_is_named_and_a_table_s_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "catalog" / "_delta_log").mkdir(parents=True)
    code, place = "_LEGACY_ERROR_TEMP_2064", f"file://{tmp_path}/catalog/data/a%20b.parquet"
    found = Throwable("org.apache.spark.SparkException", "Encountered", [FRAME], code, {"path": place})
    assert found.file == f"{tmp_path}/catalog/data/a b.parquet"
    assert type(found.damage()) is TableError
    gone = Throwable("x", "", [], "PATH_NOT_FOUND", {"path": "file:/in/items.parquet"})
    assert type(gone.damage()) is InputContractError
    assert gone.damage().message == "/in/items.parquet is gone"


def failing(error: BaseException):
    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise error
        yield from batches

    return work


def dying():
    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:  # in here, so that it travels by value
        os.kill(os.getpid(), signal.SIGKILL)
        yield from batches

    return work


def caught(action) -> BaseException:
    with pytest.raises(Exception) as found:
        action()
    return found.value


def test_spark_s_failures_are_named_for_what_they_are(spark: SparkSession, tmp_path: Path) -> None:
    numbers, context = spark.range(3), spark.sparkContext
    full = caught(lambda: numbers.mapInArrow(failing(OSError(errno.ENOSPC, "full", "/ws")), "id long").collect())
    assert "disk is full" in translate(full).message
    memory = caught(lambda: context.parallelize([1]).map(lambda _: bytearray(2**60)).collect())
    assert "memory" in translate(memory).message
    for action in (
        lambda: numbers.mapInArrow(dying(), "id long").collect(),
        lambda: context.parallelize([1]).map(lambda _: os._exit(3)).collect(),
    ):
        lost = translate(caught(action))
        assert (type(lost), lost.message) == (TryAgainError, "a worker or executor was lost")
    (tmp_path / "file").touch()
    below = translate(caught(lambda: numbers.write.parquet(str(tmp_path / "file" / "x"))))
    assert (type(below), below.exit_code) == (SettingsError, 2)
    unfit = translate(caught(lambda: spark.sql("select cast(concat('x', id) as int) from range(3)").collect()))
    assert type(unfit) is InputContractError
    path = tmp_path / "t r%.parquet"
    pq.write_table(pa.table({"a": ["x"] * 3000}), path)
    frame = spark.read.schema("a string").parquet(str(path))
    path.write_bytes(path.read_bytes()[:90])
    assert str(path) in translate(caught(frame.collect)).message
    path.unlink()
    assert translate(caught(frame.collect)).message == f"{path} is gone"


def test_a_checksum_file_of_an_earlier_file_is_named_with_what_to_do(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "g o.parquet"
    pq.write_table(pa.table({"a": ["x"] * 3000}), path)
    (tmp_path / ".g o.parquet.crc").write_bytes(b"crc\0\0\0\2\0" + b"\1\2\3\4" * 50)
    found = translate(caught(spark.read.schema("a string").parquet(str(path)).collect))
    assert isinstance(found, InputContractError)
    assert str(path) in found.message and "remove the .crc file" in found.hint


LOSES_ITS_JVM = """
import os, signal, sys, threading, time
from crossweave.config import load_settings
from crossweave.runtime.faults import translate
from crossweave.runtime.session import open_session

spark = open_session(load_settings(), "test")
process = spark.sparkContext._gateway.proc.pid
threading.Thread(target=lambda: (time.sleep(1.5), os.kill(process, signal.SIGKILL)), daemon=True).start()
for action in (lambda: spark.range(10**12).selectExpr("sum(id * id % 7)").collect(), lambda: spark.range(3).collect()):
    try:
        action()
    except BaseException as error:
        named = translate(error)
        print("named", named.exit_code if named else type(error), named.message if named else error)
sys.stdout.flush()
os._exit(0)
"""


def test_a_jvm_that_is_killed_is_a_reason_to_try_again() -> None:
    environment = os.environ | {"PYSPARK_SUBMIT_ARGS": "--master local[1] --conf spark.ui.enabled=false pyspark-shell"}
    done = subprocess.run(
        [sys.executable, "-c", LOSES_ITS_JVM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("named")]
    assert lines == ["named 75 Spark's JVM was lost"] * 2, done.stdout + done.stderr[-2000:]


def test_an_error_of_py4j_with_a_jvm_that_answers_stays_a_bug(spark: SparkSession) -> None:
    assert translate(Py4JNetworkError("odd")) is None
    assert throwables(ValueError("x")) == []
