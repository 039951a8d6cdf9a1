"""The chain on YARN with inputs and workspace on HDFS, by the commands of docs/clusters.md, client and cluster mode.

One workspace and one chain serve all that is asserted: it is broken on the way, and goes on each time.
"""

from __future__ import annotations

import os
import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyspark
import pytest
from stores import Hadoop
from support import REPOSITORY, Chain, Night, stage

from crossweave.storage.location import Location
from crossweave.storage.records import read_json
from crossweave.tables.store import TableStore

SOON, LONG = 300, 1200  # seconds, on a machine that others use too
SMALL = {
    "spark.executor.cores": "1",
    "spark.executor.memory": "1g",
    "spark.executor.memoryOverhead": "1g",
    "spark.driver.memory": "1g",
    "spark.ui.enabled": "false",
    "spark.yarn.jars": f"local:{Path(pyspark.__file__).parent}/jars/*",
}
"""What the tests' own cluster is given beside conf/spark/yarn.conf: little memory, and no 300 MB of jars a start."""


class Yarn:
    """The commands of a user of a cluster, in processes of their own."""

    def __init__(self, hadoop: Hadoop, chain: Chain, folder: Path) -> None:
        self.hadoop, self.chain, self.folder = hadoop, chain, folder
        self.workspace = Location.of(str(chain.workspace))
        self.conf = folder / "yarn.conf"
        plain = (REPOSITORY / "conf" / "spark" / "yarn.conf").read_text(encoding="utf-8")
        self.conf.write_text(plain + "".join(f"{key} {value}\n" for key, value in SMALL.items()), encoding="utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "PYTHONPATH", "SPARK_"))}
        self.environment = kept | {"HADOOP_CONF_DIR": str(hadoop.conf)}

    def start(self, command: str, **pairs: Any) -> Started:
        """Start a command of the docs on the tiny shop."""
        documented = (REPOSITORY / "docs" / "clusters.md").read_text(encoding="utf-8")
        assert f"\n{command}\n" in documented
        words = shlex.split(command.removeprefix("HADOOP_CONF_DIR=CONF "))
        place = {"conf/spark/yarn.conf": str(self.conf), "workspace=hdfs:///user/me/ws": f"workspace={self.workspace}"}
        own = [place.get(word, word) for word in words]
        return Started([*own, *self.chain.words(**pairs)], self.environment)

    def running(self, main: str) -> list[psutil.Process]:
        """Return the JVMs of this cluster's containers that run a class of Spark's."""
        return [process for process in psutil.process_iter() if self._runs(process, main)]

    def _runs(self, process: psutil.Process, main: str) -> bool:
        try:
            named = any(word.endswith(main) for word in process.cmdline()[1:])
            return named and process.name() == "java" and process.cwd().startswith(str(self.hadoop.conf.parent))
        except psutil.Error:
            return False

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table's newest version."""
        rows: list[dict[str, Any]] = TableStore(self.workspace / "tables").required(table).rows_where(None).to_pylist()
        return rows


class Started:
    """A command that runs, and what it says."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, **pipes)
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def until(self, start: str) -> None:
        """Wait for a line that starts so."""
        while not self._next().startswith(start):
            pass

    def _next(self) -> str:
        line = self._lines.get(timeout=LONG)
        assert line is not None, self.said
        self.said.append(line)
        return line

    def end(self, code: int) -> dict[str, Any]:
        """Wait for the end, which must have this code; returns the record, where one is named."""
        while (line := self._lines.get(timeout=LONG)) is not None:
            self.said.append(line)
        assert self.process.wait(SOON) == code, "\n".join(self.said)
        records = [line.removeprefix("record: ") for line in self.said if line.startswith("record: ")]
        record: dict[str, Any] = read_json(Location.of(records[-1])) if records else {}
        return record


def wait_for(what: Any) -> None:
    end = time.monotonic() + SOON
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def listed(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((row["user_id"], row["rank"], row["item_id"], row["score"]) for row in rows)


EXECUTOR, DRIVER = ".YarnCoarseGrainedExecutorBackend", ".yarn.ApplicationMaster"
PIPELINE = (
    "HADOOP_CONF_DIR=CONF ./submit.sh pipeline --spark-conf conf/spark/yarn.conf --set workspace=hdfs:///user/me/ws"
)
ON_CLUSTER = f"{PIPELINE} --deploy-mode cluster"
TRAIN = ON_CLUSTER.replace(" pipeline ", " train ")
INGEST = ON_CLUSTER.replace(" pipeline ", " ingest ")
DOCTOR = PIPELINE.replace(" pipeline ", " doctor ")


@pytest.fixture(scope="module")
def yarn(hadoop: Hadoop, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yarn]:
    if not (REPOSITORY / ".venv" / ".ready").is_file():
        pytest.skip("submit.sh has not set .venv up here, and a test must not install anything")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HADOOP_CONF_DIR", str(hadoop.conf))
        root = Location.of("hdfs:///user/me")
        (root / "shop").upload_folder(shop)
        chain = Chain(f"{root}/ws", f"{root}/shop")  # type: ignore[arg-type]
        yield Yarn(hadoop, chain, tmp_path_factory.mktemp("yarn"))


@pytest.mark.slow
def test_doctor_finds_the_cluster_well(yarn: Yarn) -> None:
    examined = yarn.start(DOCTOR)
    examined.end(0)
    for name in ("cluster", "executors", "slots", "rendezvous", "versions", "store", "gpus"):
        assert any(line.startswith(f"  ok    {name} ") for line in examined.said), examined.said


@pytest.mark.slow
def test_a_broken_chain_goes_on_and_ends_with_the_lists_of_a_local_night(yarn: Yarn, night: Night) -> None:
    first = yarn.start(PIPELINE)
    first.until("  ingest ")
    wait_for(lambda: yarn.running(EXECUTOR))
    yarn.running(EXECUTOR)[0].kill()  # Spark brings another one, and its tasks are done again
    second = yarn.start(PIPELINE)
    assert second.end(75)["error"]["message"].startswith(f"the workspace {yarn.workspace} is held by run")
    first.until("  tensors ")
    first.process.kill()
    record = yarn.start(PIPELINE).end(0)
    assert [stage(record, name)["rows_out"] for name in ("ingest", "embed", "tensors")] == [0, 0, 0]
    assert listed(yarn.rows("recommendations")) == listed(night.chain.table("recommendations"))
    folder = yarn.workspace / "runs" / record["run_id"]
    assert {"log.jsonl", "report.html", "config.yaml", "ranks"} <= {place.name for place in folder.children()}


@pytest.mark.slow
def test_a_second_start_encodes_nothing_with_the_driver_on_the_cluster_too(yarn: Yarn, night: Night) -> None:
    record = yarn.start(ON_CLUSTER).end(0)
    assert (record["status"], record["exit_code"], record["job"]) == ("noop", 0, "pipeline")
    assert stage(record, "embed")["rows_out"] == 0


@pytest.mark.slow
def test_a_driver_on_the_cluster_trains_and_tells_its_end(yarn: Yarn, night: Night) -> None:
    trained = yarn.start(TRAIN, train__max_epochs=1)
    record = trained.end(0)
    assert (record["status"], stage(record, "train")["rows_out"] > 0) == ("ok", True)
    assert any(line.startswith("application_") for line in trained.said)
    folder = yarn.workspace / "runs" / record["run_id"]
    assert {"log.jsonl", "training.jsonl", "ranks"} <= {place.name for place in folder.children()}


@pytest.mark.slow
def test_a_driver_on_the_cluster_that_fails_says_so_with_its_own_code(yarn: Yarn) -> None:
    refused = yarn.start(INGEST, inputs__root=f"{yarn.workspace}/nowhere")
    record = refused.end(3)
    assert (record["status"], record["exit_code"]) == ("failed", 3)
    assert any(line.startswith("failed (exit 3): ") and "nowhere/items.parquet" in line for line in refused.said)
    unknown = yarn.start(INGEST, train__rnks=2)
    assert unknown.end(2) == {}
    assert unknown.said[0].startswith("failed (exit 2): unknown setting train.rnks")
    here = yarn.start(INGEST, workspace="ws")
    here.end(2)
    assert here.said[0].startswith("failed (exit 2): workspace=ws is relative to this folder")


@pytest.mark.slow
def test_a_stop_reaches_the_driver_on_the_cluster(yarn: Yarn) -> None:
    stopped = yarn.start(INGEST)
    stopped.until("application_")
    wait_for(lambda: yarn.running(DRIVER))
    stopped.process.terminate()
    stopped.end(75)
    wait_for(lambda: not yarn.running(DRIVER))
