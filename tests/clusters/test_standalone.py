"""The chain on a Spark standalone cluster that shares nothing but a bucket, by the commands of docs/clusters.md."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from documented import RANK, Reader, commands, kill_one, properties, settings_of_ones_own
from standalone import SPARK_HOME, Standalone
from stores import S3Server
from support import DATE, REPOSITORY, Night, lists_of

from crossweave.storage.location import Location

SECRET = "a-key-that-nobody-may-read"
DISK = 30e9  # bytes
EXECUTOR = "CoarseGrainedExecutorBackend"


@pytest.fixture
def reader(standalone: Standalone, s3: Location, s3_server: S3Server, shop: Path, tmp_path: Path) -> Reader:
    (s3 / "shop").upload_folder(shop)
    meant = {
        "mine.yaml": settings_of_ones_own(
            tmp_path / "mine.yaml", {"inputs.root": f"{s3}shop", "train.stall_seconds": 120}
        ),
        "s3://shop/ws": f"{s3}ws",
        "2026-01-31": DATE,
        "conf/spark/standalone.conf": str(standalone.settings(tmp_path / "spark.conf")),
    }
    path = f"{SPARK_HOME / 'bin'}{os.pathsep}{os.environ['PATH']}"
    own = {"AWS_SECRET_ACCESS_KEY": SECRET, "SPARK_LOCAL_IP": "127.0.0.1", "PATH": path}
    return Reader(tmp_path, meant, s3_server.environment | own)


def committed(workspace: Location) -> dict[str, str]:
    """Return what readers go by: the files of all tables' logs, and the receipts."""
    logs = {str(place): "" for place, _ in (workspace / "tables").walk() if place.parent.name == "_delta_log"}
    return logs | {str(place): place.text() for place, _ in (workspace / "receipts").walk()}


@pytest.mark.slow
def test_a_node_sees_neither_the_checkout_nor_what_the_driver_writes(standalone: Standalone, tmp_path: Path) -> None:
    (tmp_path / "seen").touch()
    for node in standalone.nodes:
        inside = Path(f"/proc/{node.process.pid}/root")
        assert not list((inside / REPOSITORY.relative_to("/")).glob("*.sh"))
        assert not (inside / tmp_path.relative_to("/")).exists()


@pytest.mark.slow
def test_a_cluster_that_shares_only_a_bucket_gives_the_lists_of_a_local_run_whatever_is_killed(
    night: Night, reader: Reader, standalone: Standalone, s3: Location
) -> None:
    command, packing, submission = commands("clusters.md", "## Spark standalone")
    workspace = s3 / "ws"

    frozen = reader.start(command)
    frozen.until("  ingest ")
    frozen.send(signal.SIGSTOP)

    driver = reader.start(command)  # takes over after the lease of the first one has run out
    driver.until("  ingest ")
    other = reader.start(command)
    other.ends(75)
    assert "is held by run" in "\n".join(other.said)
    driver.until("  tensors ")
    driver.until(lambda: len(standalone.processes(RANK)) == 2)
    kill_one(standalone.processes(RANK))
    driver.ends(75)
    assert "a training rank was lost" in "\n".join(driver.said)

    before = committed(workspace)
    frozen.send(signal.SIGCONT)
    frozen.ends(75)
    assert "was taken over by run" in "\n".join(frozen.said)
    assert committed(workspace) == before

    driver = reader.start(command)
    driver.until("  train ")
    driver.send(signal.SIGKILL)

    driver = reader.start(command)
    driver.until("  train ")
    driver.until(lambda: standalone.processes(EXECUTOR))
    kill_one(standalone.processes(EXECUTOR))
    assert driver.ends(0)["status"] == "ok"
    assert lists_of(workspace) == lists_of(night.chain.workspace)

    packed = reader.start(packing)
    packed.ends(0)
    assert "crossweave.zip" in "\n".join(packed.said)
    record = reader.start(submission).ends(0)
    assert record["status"] == "noop"
    assert {record["metrics"][f"embed.{modality}.encoded"] for modality in ("text", "image", "sound")} == {0}
    assert not list(reader.folder.iterdir())  # a URL taken for a path of this machine would lie here
    assert "crossweave.zip" in standalone.logs()
    assert SECRET not in standalone.logs() + reader.screen()


@pytest.mark.slow
def test_a_packed_environment_travels_to_the_executors_and_has_all_that_they_need(
    standalone: Standalone, reader: Reader, s3: Location, tmp_path: Path
) -> None:
    if shutil.disk_usage(tmp_path).free < DISK:
        pytest.skip(f"an environment that is packed, sent and unpacked needs {DISK / 1e9:.0f} GB of disk")
    (packing,) = commands("clusters.md", "## A packed environment")
    archive = REPOSITORY / "dist" / "environment.tar.gz"
    try:
        packed = reader.start(packing)
        packed.ends(0)
        assert any(line.startswith(f"{archive}: ") for line in packed.said)
        own = properties("clusters.md", "## A packed environment")
        assert own.pop("spark.archives") == "dist/environment.tar.gz#environment"
        own = {name.replace(".", "__"): value for name, value in own.items()}
        conf = standalone.settings(tmp_path / "packed.conf", **own, spark__archives=f"{archive}#environment")
        examined = reader.start(f"./submit.sh doctor --spark-conf {conf} --set workspace={s3}ws")
        examined.ends(0)
    finally:
        archive.unlink(missing_ok=True)
    found = {line.split()[1]: line for line in examined.said if line.startswith("  ok ")}
    assert found["executors"].endswith("/environment") and str(REPOSITORY) not in found["executors"]
    assert "versions" in found
