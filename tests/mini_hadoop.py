"""A small real HDFS and YARN on loopback, from pip's PySpark and three jars that Spark fetches once a machine.

    python tests/mini_hadoop.py FOLDER NODES

prints "READY hdfs://localhost:PORT CONF_FOLDER" after some ten seconds and runs until its stdin ends, so it goes with
whoever started it. CONF_FOLDER is what HADOOP_CONF_DIR and YARN_CONF_DIR of a client name. All data lie in FOLDER.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyspark
from pyspark.java_gateway import launch_gateway

SPARK_HOME = Path(pyspark.__file__).parent
IVY = Path.home() / ".cache" / "crossweave-tests" / "ivy"
JARS = "org.apache.hadoop:hadoop-client-minicluster:3.3.4,org.bouncycastle:bcpkix-jdk15on:1.70"
INSIDE_SPARK = "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime"
PATIENCE = 300  # seconds for the jars to come
CLIENT_KEYS = (
    "fs.defaultFS",
    "yarn.resourcemanager.address",
    "yarn.resourcemanager.scheduler.address",
    "yarn.resourcemanager.admin.address",
    "yarn.resourcemanager.resource-tracker.address",
    "yarn.resourcemanager.webapp.address",
)
NODE_SETTINGS = {
    "yarn.nodemanager.vmem-check-enabled": "false",
    "yarn.minicluster.yarn.nodemanager.resource.memory-mb": "49152",
    "yarn.nodemanager.resource.cpu-vcores": "16",
    "yarn.scheduler.minimum-allocation-mb": "256",
    "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.5",
    "yarn.scheduler.capacity.root.queues": "default",
    "yarn.scheduler.capacity.root.default.capacity": "100",
    "yarn.scheduler.capacity.maximum-am-resource-percent": "0.5",
}


def fetch_jars() -> str:
    """Return the class path of Hadoop's servers; raises OSError saying why where the jars cannot be had."""
    done = IVY / "complete"
    if not done.is_file():
        IVY.mkdir(parents=True, exist_ok=True)
        nothing = IVY / "nothing.py"
        nothing.write_text("pass\n")
        words = ["--conf", f"spark.jars.ivy={IVY}", "--exclude-packages", INSIDE_SPARK, "--packages", JARS]
        command = [str(SPARK_HOME / "bin" / "spark-submit"), *words, str(nothing)]
        try:
            found = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"the jars did not come within {PATIENCE} s") from error
        if found.returncode:
            raise OSError(f"spark-submit --packages ended with {found.returncode}: {found.stderr[-300:]}")
        done.touch()
    return str(IVY / "jars" / "*")


def start(folder: Path, nodes: int = 1) -> tuple[subprocess.Popen[str], str, Path]:
    """Start the servers; returns their process, the URL of HDFS and the folder of the clients' settings."""
    words = ["--driver-memory", "1g", "--driver-class-path", fetch_jars(), "pyspark-shell"]
    command = [sys.executable, __file__, str(folder), str(nodes)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            env=_environment() | {"PYSPARK_SUBMIT_ARGS": " ".join(words)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("READY "):
            _, url, conf = line.split()
            return process, url, Path(conf)
    raise OSError(f"no HDFS: {(folder / 'log').read_text()[-500:]}")


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK_", "HADOOP_", "YARN_"))}
    return kept | {"SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1"}


def main(folder: Path, nodes: int) -> None:
    """Run the servers until stdin ends; the JVM ends with this process."""
    jvm: Any = launch_gateway().jvm
    hadoop = jvm.org.apache.hadoop
    jvm.java.lang.System.setProperty("hadoop.log.dir", str(folder / "logs"))
    jvm.java.lang.System.setProperty("test.build.data", str(folder / "data"))
    settings = hadoop.yarn.conf.YarnConfiguration()
    for key, value in NODE_SETTINGS.items():
        settings.set(key, value)
    settings.set("hadoop.tmp.dir", str(folder / "tmp"))
    settings.set("hdfs.minidfs.basedir", str(folder / "dfs"))
    hdfs = getattr(hadoop.hdfs, "MiniDFSCluster$Builder")(settings).numDataNodes(nodes).build()
    hdfs.waitClusterUp()
    settings.set("fs.defaultFS", hdfs.getURI().toString())
    yarn = hadoop.yarn.server.MiniYARNCluster("mini", 1, nodes, 1, 1)
    yarn.init(settings)
    yarn.start()
    user = jvm.java.lang.System.getProperty("user.name")
    hdfs.getFileSystem().mkdirs(hadoop.fs.Path(f"/user/{user}"))
    conf = folder / "conf"
    conf.mkdir(exist_ok=True)
    _write_settings(jvm, yarn.getConfig(), conf)
    print(f"READY {hdfs.getURI().toString()} {conf}", flush=True)  # noqa: T201 - it is what it is asked for
    sys.stdin.read()


def _write_settings(jvm: Any, servers: Any, conf: Path) -> None:
    client = jvm.org.apache.hadoop.conf.Configuration(False)
    for key in CLIENT_KEYS:
        client.set(key, servers.get(key))
    client.set("yarn.application.classpath", f"{SPARK_HOME}/jars/*")
    for name in ("core-site.xml", "yarn-site.xml"):
        stream = jvm.java.io.FileOutputStream(str(conf / name))
        client.writeXml(stream)
        stream.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]))
