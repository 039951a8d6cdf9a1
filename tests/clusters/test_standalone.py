"""The chain on a Spark standalone cluster that shares nothing but a bucket, by the commands of docs/clusters.md."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import documented
import psutil
import pytest
import yaml
from standalone import SPARK_HOME, Standalone
from stores import S3Server
from support import DATE, REPOSITORY, TINY, Night
from test_other_stores import listed, upload

from crossweave.config.load import nested
from crossweave.config.plain import merged
from crossweave.storage.location import Location
from crossweave.storage.records import read_json
from crossweave.tables.store import TableStore

SECRET = "a-key-that-nobody-may-read"
LONGEST_SECONDS = 900
TO_DIE_SECONDS = 60
RANK, EXECUTOR = "horovod.spark.task.gloo_exec_fn", "CoarseGrainedExecutorBackend"


class Driver:
    """A command of the documentation, under way."""

    def __init__(self, process: subprocess.Popen[str], screen: Path) -> None:
        self.process, self.screen = process, screen

    @property
    def said(self) -> str:
        return self.screen.read_text("utf-8", "replace")

    def until(self, seen: Callable[[], object]) -> None:
        """Wait for something that happens before the command ends."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while not seen():
            assert self.process.poll() is None, self.said[-4000:]
            assert time.monotonic() < deadline, self.said[-4000:]
            time.sleep(0.1)

    def has_done(self, stage: str) -> None:
        """Wait for the end of a stage."""
        self.until(lambda: f"\n  {stage} " in self.said)

    def ends(self, code: int) -> str:
        """Wait for the end, and return what was said."""
        assert self.process.wait(LONGEST_SECONDS) == code, self.said[-4000:]
        return self.said


class Shop:
    """A workspace and an input in a bucket, the cluster, and a folder of this machine to stand in."""

    def __init__(self, cluster: Standalone, bucket: Location, server: S3Server, folder: Path) -> None:
        self.cluster, self.bucket, self.folder = cluster, bucket, folder / "here"
        self.folder.mkdir()
        self.environment = server.environment | {"AWS_SECRET_ACCESS_KEY": SECRET, "SPARK_LOCAL_IP": "127.0.0.1"}
        self.environment["PATH"] = f"{SPARK_HOME / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = merged(
            yaml.safe_load((REPOSITORY / "conf" / "local.yaml").read_text()),
            nested(TINY | {"inputs.root": f"{bucket}shop"}),
        )
        (folder / "mine.yaml").write_text(yaml.safe_dump(own))
        self.meant = {
            "mine.yaml": str(folder / "mine.yaml"),
            "s3://shop/ws": f"{bucket}ws",
            "2026-01-31": DATE,
            "conf/spark/standalone.conf": str(cluster.settings(folder / "spark.conf")),
        }
        self.screens = folder

    def start(self, command: str, more: str = "") -> Driver:
        """Start a command of the page."""
        screen = self.screens / f"screen-{len(list(self.screens.glob('screen-*')))}"
        meant = {example: value for example, value in self.meant.items() if example in command}
        with screen.open("w") as stream:
            process = documented.start(f"{command} {more}", meant, self.folder, self.environment, stream)
        return Driver(process, screen)

    def record(self) -> dict:
        """Return the newest run's record."""
        runs = self.bucket / "ws" / "runs"
        return read_json(runs / (runs / "latest").text() / "run_result.json")

    def table(self, name: str) -> tuple[int, list[dict]]:
        """Return the version of a table, and its rows."""
        snapshot = TableStore(self.bucket / "ws" / "tables").required(name)
        return snapshot.version, snapshot.rows_where(None).to_pylist()


@pytest.fixture
def bucket_shop(standalone: Standalone, s3: Location, s3_server: S3Server, shop: Path, tmp_path: Path) -> Shop:
    upload(shop, s3 / "shop")
    return Shop(standalone, s3, s3_server, tmp_path)


def kill(processes: list[psutil.Process]) -> None:
    """Kill one of some processes."""
    processes[0].send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_node_sees_neither_the_checkout_nor_what_the_driver_writes(standalone: Standalone, tmp_path: Path) -> None:
    (tmp_path / "seen").touch()
    for node in standalone.nodes:
        inside = Path(f"/proc/{node.process.pid}/root")
        assert not list((inside / REPOSITORY.relative_to("/")).glob("*.sh"))
        assert not (inside / tmp_path.relative_to("/")).exists()


@pytest.mark.slow
def test_a_cluster_that_shares_only_a_bucket_gives_the_lists_of_a_local_run_whatever_is_killed(
    night: Night, bucket_shop: Shop
) -> None:
    shop, cluster = bucket_shop, bucket_shop.cluster
    command, packing, _ = documented.commands("clusters.md", "## Spark standalone")

    driver = shop.start(command)
    driver.has_done("ingest")
    os.killpg(driver.process.pid, signal.SIGKILL)

    driver = shop.start(command)
    driver.has_done("ingest")
    other = shop.start(command)
    assert "is held by run" in other.ends(75)
    driver.has_done("tensors")
    driver.until(lambda: len(cluster.processes(RANK)) == 2)
    kill(cluster.processes(RANK))
    assert "a training rank was lost" in driver.ends(75)

    driver = shop.start(command)
    driver.has_done("train")
    kill(cluster.processes(EXECUTOR))
    driver.ends(0)
    _, rows = shop.table("recommendations")
    assert listed(rows) == listed(night.chain.table("recommendations"))
    assert shop.record()["status"] == "ok"

    shop.start(command).ends(0)
    record = shop.record()
    assert record["status"] == "noop"
    assert {record["metrics"][f"embed.{modality}.encoded"] for modality in ("text", "image", "sound")} == {0}

    assert "crossweave.zip" in shop.start(packing).ends(0)
    assert not list(shop.folder.iterdir())  # a URL taken for a path of this machine would lie here
    assert "crossweave.zip" in cluster.logs()
    assert SECRET not in cluster.logs() + "".join(path.read_text() for path in shop.screens.glob("screen-*"))
