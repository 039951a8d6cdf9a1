"""The entry point of the image, called as Spark on Kubernetes calls it: there is no container here, but both ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from environments import wait_for_line
from manifests import FOLDER
from support import QUICK_JAVA, REPOSITORY

pytestmark = pytest.mark.slow
ENTRY = FOLDER / "image-entrypoint.sh"
SPARK_HOME = Path(pyspark.__file__).parent
OF_IMAGE = os.environ | {"SPARK_HOME": str(SPARK_HOME), "PYTHONPATH": str(REPOSITORY / "lib")}
DRIVER = Path(__file__).with_name("image_driver.py")


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_a_driver_ends_with_the_exit_code_of_its_job(tmp_path: Path) -> None:
    properties = tmp_path / "spark.properties"
    properties.write_text("spark.master local[1]\nspark.ui.enabled false\n", encoding="utf-8")
    places = ["--set", f"workspace={tmp_path / 'ws'}", "--set", f"inputs.root={tmp_path / 'none'}"]
    job = f"local://{REPOSITORY}/jobs/ingest_catalog.py"
    words = ["driver", "--properties-file", properties, "--class", "org.apache.spark.deploy.PythonRunner", job, *places]
    environment = OF_IMAGE | {"SPARK_DRIVER_BIND_ADDRESS": "127.0.0.1", "JDK_JAVA_OPTIONS": QUICK_JAVA}
    ended = subprocess.run([ENTRY, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "failed (exit 3): the items table" in ended.stdout


def test_the_jars_of_the_image_go_with_the_driver(tmp_path: Path) -> None:
    jars = tmp_path / "home" / ".ivy2" / "jars"
    jars.mkdir(parents=True)
    for name in ("a.jar", "b.jar"):
        (jars / name).touch()
    spark = tmp_path / "spark" / "bin" / "spark-submit"
    spark.parent.mkdir(parents=True)
    spark.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    spark.chmod(0o755)
    environment = os.environ | {"HOME": str(tmp_path / "home"), "SPARK_HOME": str(tmp_path / "spark")}
    environment["SPARK_DRIVER_BIND_ADDRESS"] = "10.1.2.3"
    said = subprocess.run([ENTRY, "driver", "job.py"], env=environment, capture_output=True, text=True, check=True)
    given = "spark.driver.bindAddress=10.1.2.3"
    both = f"{jars / 'a.jar'},{jars / 'b.jar'}"
    assert said.stdout.splitlines() == ["--deploy-mode", "client", "--conf", given, "--jars", both, "job.py"]


def test_any_other_command_is_run_as_it_is() -> None:
    said = subprocess.run([ENTRY, "sh", "-c", "echo $0 $1", "a", "b"], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "a b\n")


@pytest.fixture
def master(tmp_path: Path) -> Iterator[str]:
    """A Spark cluster that has no workers, so that a driver waits."""
    port = free_port()
    words = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", "0"]
    log = tmp_path / "master.log"
    environment = OF_IMAGE | {"SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA}
    with log.open("wb") as stream:
        command = [str(SPARK_HOME / "bin" / "spark-class"), *words]
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        wait_for_line(log, "I have been elected leader", process)
        yield f"spark://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_an_executor_finds_its_driver_and_works_for_it(master: str, tmp_path: Path) -> None:
    port, said = free_port(), tmp_path / "driver.out"
    with said.open("wb") as stream, (tmp_path / "driver.err").open("wb") as errors:
        driver = subprocess.Popen([sys.executable, DRIVER, master, port], env=OF_IMAGE, stdout=stream, stderr=errors)
    executor = None
    try:
        wait_for_line(said, "application", driver)
        known = json.loads(said.read_text(encoding="utf-8").splitlines()[0])
        pod = {
            "SPARK_DRIVER_URL": f"spark://CoarseGrainedScheduler@127.0.0.1:{port}",
            "SPARK_EXECUTOR_ID": "1",
            "SPARK_EXECUTOR_CORES": "2",
            "SPARK_EXECUTOR_MEMORY": "512m",
            "SPARK_APPLICATION_ID": known["application"],
            "SPARK_EXECUTOR_POD_IP": "127.0.0.1",
            "SPARK_EXECUTOR_POD_NAME": "crossweave-exec-1",
            "SPARK_RESOURCE_PROFILE_ID": "0",
        }
        pod |= {f"SPARK_JAVA_OPT_{number}": option for number, option in enumerate(known["options"])}
        with (tmp_path / "executor.log").open("wb") as log:
            executor = subprocess.Popen([ENTRY, "executor"], env=OF_IMAGE | pod, stdout=log, stderr=log, cwd=tmp_path)
        assert driver.wait(300) == 0, (tmp_path / "driver.err").read_text("utf-8", "replace")[-2000:]
        assert said.read_text(encoding="utf-8").splitlines()[-1] == str(sum(range(0, 200, 2)))
        assert executor.wait(60) == 0  # it ends with its driver
    finally:
        for process in filter(None, (driver, executor)):
            process.kill()
            process.wait()
