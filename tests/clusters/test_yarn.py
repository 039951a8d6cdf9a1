"""The chain on YARN with inputs and workspace on HDFS, by the commands of docs/clusters.md, client and cluster mode.

One workspace and one chain serve all that is asserted: it is broken on the way, and goes on each time.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyspark
import pytest
from documented import RANK, Command, Reader, commands, kill_one, wait_for
from stores import Hadoop
from support import DATE, REPOSITORY, TINY, Night, lists_of, setting, stage

from crossweave.storage.location import Location

OWN_LINES = f"spark.yarn.jars local:{Path(pyspark.__file__).parent}/jars/*\nspark.executor.cores 1\n"
"""What the page lets everybody see to: no 300 MB to HDFS a start; and as many slots as the local night has cores, which
the last digit of a score depends on."""

EXECUTOR, DRIVER = ".YarnCoarseGrainedExecutorBackend", ".yarn.ApplicationMaster"
PIPELINE, ON_CLUSTER, INGEST, TRAIN = commands("clusters.md", "## YARN and HDFS")
(DOCTOR,) = commands("clusters.md", "## Before the first night: doctor")


class Yarn:
    """A user of the cluster, with a workspace and the tiny shop on HDFS."""

    def __init__(self, hadoop: Hadoop, shop: Path, folder: Path) -> None:
        self.hadoop = hadoop
        home = Location.of("hdfs:///user/me")
        (home / "shop").upload_folder(shop)
        self.workspace = home / "ws"
        self.values = TINY | {"inputs.root": f"{home}/shop", "train.stall_seconds": 120}
        conf = folder / "yarn.conf"
        conf.write_text((REPOSITORY / "conf" / "spark" / "yarn.conf").read_text(encoding="utf-8") + OWN_LINES)
        self.reader = Reader(folder, {"CONF ": f"{hadoop.conf} ", "conf/spark/yarn.conf": str(conf)}, {})

    def start(self, command: str, **pairs: Any) -> Command:
        """Start a command of the docs on the tiny shop."""
        return self.reader.start(command, [*setting(self.values | pairs), "--date", DATE])

    def running(self, what: str) -> list[psutil.Process]:
        """Return the processes of this cluster's containers that run something: a class of Spark's, a rank."""
        return [process for process in psutil.process_iter() if self._runs(process, what)]

    def _runs(self, process: psutil.Process, what: str) -> bool:
        try:
            named = any(word.endswith(what) for word in process.cmdline()[1:])
            inside = process.cwd().startswith(str(self.hadoop.conf.parent))
            return named and inside and process.name() in ("java", "python")
        except psutil.Error:
            return False


@pytest.fixture(scope="module")
def yarn(hadoop: Hadoop, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yarn]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HADOOP_CONF_DIR", str(hadoop.conf))
        yield Yarn(hadoop, shop, tmp_path_factory.mktemp("yarn"))


@pytest.mark.slow
def test_doctor_finds_the_cluster_well(yarn: Yarn) -> None:
    examined = yarn.start(DOCTOR)
    examined.ends(0)
    for name in ("cluster", "executors", "slots", "rendezvous", "versions", "store", "gpus"):
        assert any(line.startswith(f"  ok    {name} ") for line in examined.said), examined.said


@pytest.mark.slow
def test_a_broken_chain_goes_on_and_ends_with_the_lists_of_a_local_night(yarn: Yarn, night: Night) -> None:
    first = yarn.start(PIPELINE)
    first.until("  ingest ")
    kill_one(yarn.running(EXECUTOR))  # Spark brings another one, and its tasks are done again
    second = yarn.start(PIPELINE)
    assert second.ends(75)["error"]["message"].startswith(f"the workspace {yarn.workspace} is held by run")
    first.until("  tensors ")
    first.send(signal.SIGKILL)
    third = yarn.start(PIPELINE)
    third.until("  tensors ")
    third.until(lambda: len(yarn.running(RANK)) == 2)
    kill_one(yarn.running(RANK))
    assert third.ends(75)["error"]["message"].startswith("a training rank was lost")
    record = yarn.start(PIPELINE).ends(0)
    assert [stage(record, name)["rows_out"] for name in ("ingest", "embed", "tensors")] == [0, 0, 0]
    assert lists_of(yarn.workspace) == lists_of(night.chain.workspace)
    folder = yarn.workspace / "runs" / record["run_id"]
    assert {"log.jsonl", "report.html", "config.yaml", "ranks"} <= {place.name for place in folder.children()}


@pytest.mark.slow
def test_a_second_start_encodes_nothing_with_the_driver_on_the_cluster_too(yarn: Yarn, night: Night) -> None:
    record = yarn.start(ON_CLUSTER).ends(0)
    assert (record["status"], record["exit_code"], record["job"]) == ("noop", 0, "pipeline")
    assert stage(record, "embed")["rows_out"] == 0


@pytest.mark.slow
def test_a_driver_on_the_cluster_that_was_killed_trains_again_and_tells_its_end(yarn: Yarn, night: Night) -> None:
    broken = yarn.start(TRAIN, train__max_epochs=1)
    broken.until(lambda: yarn.running(RANK))
    kill_one(yarn.running(DRIVER))
    assert broken.ends(75)["error"]["type"] == "Interrupted"
    trained = yarn.start(TRAIN, train__max_epochs=1)
    record = trained.ends(0)
    assert (record["status"], stage(record, "train")["rows_out"] > 0) == ("ok", True)
    assert any(line.startswith("application_") for line in trained.said)
    folder = yarn.workspace / "runs" / record["run_id"]
    assert {"log.jsonl", "training.jsonl", "ranks"} <= {place.name for place in folder.children()}


@pytest.mark.slow
def test_a_driver_on_the_cluster_that_fails_says_so_with_its_own_code(yarn: Yarn) -> None:
    refused = yarn.start(INGEST, inputs__root=f"{yarn.workspace}/nowhere")
    record = refused.ends(3)
    assert (record["status"], record["exit_code"]) == ("failed", 3)
    assert any(line.startswith("failed (exit 3): ") and "nowhere/items.parquet" in line for line in refused.said)
    unknown = yarn.start(INGEST, train__rnks=2)
    assert unknown.ends(2) == {}
    assert unknown.said[0].startswith("failed (exit 2): unknown setting train.rnks")
    here = yarn.start(INGEST, workspace="ws")
    here.ends(2)
    assert here.said[0].startswith("failed (exit 2): workspace=ws is relative to this folder")


@pytest.mark.slow
def test_a_stop_reaches_the_driver_on_the_cluster(yarn: Yarn) -> None:
    stopped = yarn.start(INGEST)
    stopped.until("application_")
    wait_for(lambda: yarn.running(DRIVER))
    stopped.process.terminate()
    stopped.ends(75)
    wait_for(lambda: not yarn.running(DRIVER))
