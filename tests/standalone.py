"""A real Spark standalone cluster on loopback for tests: a master and workers that share nothing but the network.

Every worker lives in a mount namespace of its own: it sees neither the checkout, nor what the driver's tests write, nor
the driver's jars, nor another worker's /tmp. What it has is the system, Java and the environment's Python.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyspark
import pytest
from support import QUICK_JAVA

SPARK_HOME = Path(pyspark.__file__).resolve().parent
REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = Path(sys.prefix).resolve()
PYTHON = ENVIRONMENT / "bin" / "python"
"""A Python that the nodes have."""

SECONDS = 120  # for a server to answer
MASTER, WORKERS = "127.0.0.1", ("127.0.0.2", "127.0.0.3")
"""Every node has an address of its own: Spark reads what it believes to lie on the same host from the disk."""

CORES, MEMORY = 2, "3g"  # for two drivers at once, one of which was thought to be dead
MOUNTS = """
set -e
own=$1 environment=$2 kept=/tmp/.environment hide=$3
shift 3
mkdir "$own/.environment"
mount --bind "$environment" "$own/.environment" # while it is still seen: it may lie in /tmp itself
mount --rbind "$own" /tmp
for ((; hide > 0; hide--)); do [ ! -d "$1" ] || mount -t tmpfs none "$1"; shift; done
[ -x "$environment/bin/python" ] || { mkdir -p "$environment"; mount --bind $kept "$environment"; }
cd /tmp
exec "$@"
"""


@dataclass(frozen=True)
class Node:
    """One worker, and its /tmp as it lies on this machine."""

    process: subprocess.Popen[bytes]
    tmp: Path

    def processes(self, word: str) -> list[psutil.Process]:
        """Return the processes of this node with a word in their command line."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if any(word in part for part in process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found


@dataclass(frozen=True)
class Standalone:
    """Where the master answers, and the workers."""

    url: str
    nodes: list[Node] = field(default_factory=list)

    def processes(self, word: str) -> list[psutil.Process]:
        """Return the processes of all nodes with a word in their command line."""
        return [process for node in self.nodes for process in node.processes(word)]

    def logs(self) -> str:
        """Return what all executors have written to their logs."""
        found = (log for node in self.nodes for log in node.tmp.glob("work/*/*/std*"))
        return "".join(log.read_text("utf-8", "replace") for log in found)

    def settings(self, path: Path, **more: str) -> Path:
        """Write a file for --spark-conf; two underscores stand for a dot."""
        values = {
            "spark.master": self.url,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "1g",
            "spark.executor.memory": "1g",
            "spark.executor.cores": "1",
            "spark.cores.max": str(len(WORKERS)),
            "spark.pyspark.python": str(PYTHON),
            "spark.executor.extraJavaOptions": QUICK_JAVA,
            "spark.ui.enabled": "false",
        } | {name.replace("__", "."): value for name, value in more.items()}
        path.write_text("".join(f"{name} {value}\n" for name, value in values.items()))
        return path


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """The cluster of all tests; skips where no mount namespace can be made."""
    base, folder = tmp_path_factory.getbasetemp().resolve(), tmp_path_factory.mktemp("standalone")
    hidden = [REPOSITORY, Path.home() / ".ivy2", *([] if base.is_relative_to("/tmp") else [base])]
    port = _free_port()
    cluster = Standalone(f"spark://127.0.0.1:{port}")
    master = _start([], "master.Master", MASTER, ["--port", str(port)], folder / "master.log")
    try:
        _wait(folder / "master.log", "I have been elected leader", master)
        for number in range(len(WORKERS)):
            tmp = folder / f"node-{number}"
            tmp.mkdir(mode=0o1777)
            own = ["--work-dir", "/tmp/work", "--cores", str(CORES), "--memory", MEMORY, cluster.url]
            log = folder / f"worker-{number}.log"
            cluster.nodes.append(Node(_start(_apart(tmp, hidden), "worker.Worker", WORKERS[number], own, log), tmp))
        for number, node in enumerate(cluster.nodes):
            _wait(folder / f"worker-{number}.log", "Successfully registered with master", node.process)
        yield cluster
    finally:
        for process in [*(node.process for node in cluster.nodes), master]:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def _apart(tmp: Path, hidden: list[Path]) -> list[str]:
    """Return the words that start a command in a mount namespace of its own."""
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if os.getuid():
        unshare[1:1] = ["--user", "--map-root-user"]
    if shutil.which("unshare") is None:
        pytest.skip("no mount namespace can be made here: there is no unshare")
    tried = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no mount namespace can be made here: {tried.stderr.strip()}")
    return [*unshare, "bash", "-c", MOUNTS, "node", str(tmp), str(ENVIRONMENT), str(len(hidden)), *map(str, hidden)]


def _start(apart: list[str], role: str, host: str, words: list[str], log: Path) -> subprocess.Popen[bytes]:
    java = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}"]
    command = [*apart, *java, "--host", host, "--webui-port", "0", *words]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME", "LANG") if name in os.environ}
    environment = kept | {"SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": host}
    environment |= {"SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA}
    with log.open("wb") as stream:
        return subprocess.Popen(command, env=environment, cwd="/", stdout=stream, stderr=stream)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while words not in log.read_text("utf-8", "replace"):
        if process.poll() is not None or time.monotonic() > end:
            raise OSError(f"no Spark: {log.read_text('utf-8', 'replace')[-1000:]}")
        time.sleep(0.1)
