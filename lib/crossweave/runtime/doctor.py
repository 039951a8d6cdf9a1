"""Checks of the environment, each with what was found and how to mend it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from crossweave.config import Settings
from crossweave.errors import CrossweaveError
from crossweave.runtime.findings import Finding
from crossweave.runtime.spark_conf import read_spark_conf
from crossweave.runtime.stores_of_spark import jars_for
from crossweave.storage.location import Location

PINS = {
    "pyspark": "3.5.9",
    "pyarrow": "14.0.2",
    "numpy": "1.26.4",
    "pandas": "2.2.3",
    "petastorm": "0.13.1",
    "torch": "2.13.0",
    "torchvision": "0.28.0",
    "transformers": "5.23.0",
    "horovod": "0.28.1",
}
FREE_GB = 5
ASK_HOROVOD = "import horovod.torch as hvd; print(bool(hvd.gloo_built()))"


def examine(settings: Settings, spark_conf: Path | None, cluster: bool = False) -> Iterator[Finding]:
    """Yield the findings one by one; nothing but probe files in the workspace is written, and they are removed.

    With `cluster` a Spark session is started as that file says, and its executors are asked too.
    """
    checks: list[Callable[[], Finding]] = [
        _python,
        _java,
        _packages,
        _horovod,
        _gpu,
        *([] if cluster else [lambda: _cores(settings)]),  # of a cluster's it asks for slots
        lambda: _workspace(Location.of(settings.workspace)),
        lambda: _disk(Location.of(settings.workspace)),
        _port,
    ]
    if spark_conf is not None:
        checks.append(lambda: _committer(spark_conf))
    for check in checks:
        yield check()
    if cluster:
        from crossweave.runtime.cluster_doctor import examine_cluster  # the other checks go without Spark

        yield from examine_cluster(settings)


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", sys.version_info[:2] == (3, 11), found, "install Python 3.11 and run ./submit.sh setup")


def _java() -> Finding:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None:
        return Finding("java", False, "not found", "install Java 17, or set JAVA_HOME")
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "([^"]+)"', text)
    found = version.group(1) if version else "of unknown version"
    return Finding("java", found.startswith("17"), found, "Spark 3.5 runs on Java 17: install it, or set JAVA_HOME")


def _packages() -> Finding:
    wrong = []
    for name, wanted in PINS.items():
        try:
            found = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != wanted:
            wrong.append(f"{name} {found} instead of {wanted}")
    return Finding("packages", not wrong, "; ".join(wrong) or "as pinned", "remove .venv and run ./submit.sh setup")


def _horovod() -> Finding:
    mend = "see .venv/horovod.log, then remove .venv/.ready and run ./submit.sh setup"
    # In a process of its own: training/collective.py is the only place that loads Horovod into ours.
    asked = subprocess.run([sys.executable, "-c", ASK_HOROVOD], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        return Finding("horovod", False, (asked.stderr.strip().splitlines() or ["cannot be imported"])[-1], mend)
    built = asked.stdout.strip() == "True"
    return Finding("horovod", built, "with Gloo" if built else "built without Gloo", mend)


def _gpu() -> Finding:
    import torch

    count = torch.cuda.device_count()
    if count:
        return Finding("gpu", True, f"{count} × {torch.cuda.get_device_name(0)}")
    driver = shutil.which("nvidia-smi") is not None
    mend = "the driver is here, but torch is a CPU build: remove .venv and run ./submit.sh setup"
    return Finding("gpu", not driver, "none, encoders and training run on the CPU", mend if driver else "")


def _cores(settings: Settings) -> Finding:
    cores, wanted = os.cpu_count() or 1, settings.train.ranks * settings.train.threads
    mend = "lower train.ranks or train.threads; ranks that share a core wait for each other"
    return Finding("cores", cores >= wanted, f"{cores} for {wanted} training threads", mend)


def _workspace(place: Location) -> Finding:
    return _folder(place.local) if place.is_local else _store(place)


def _store(place: Location) -> Finding:
    """Write a probe twice, only where there is none: the lease and every commit rest on the second being refused."""
    mend = "docs/stores.md says which variables the store needs; it must refuse a second conditional put"
    probe = place / f".probe-{uuid.uuid4().hex}"
    try:
        first, second = probe.create("probe"), probe.create("another")
        probe.remove()
    except CrossweaveError as error:
        return Finding("workspace", False, error.message, error.hint or mend)
    jars = ", ".join(jars_for({place.scheme}).get("spark.jars.packages", "").split(",")[:1])
    found = f"{place} can be written{f'; Spark gets {jars} and its parts' if jars else ''}"
    return Finding("workspace", first and not second, found if first and not second else f"{place} puts twice", mend)


def _folder(folder: Path) -> Finding:
    mend = "name another folder with --set workspace=FOLDER; it needs rename and file locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid.uuid4().hex}"
        with probe.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        moved = probe.rename(probe.with_suffix(".moved"))
        moved.unlink()
    except OSError as error:
        return Finding("workspace", False, f"{folder}: {error.strerror}", mend)
    return Finding("workspace", True, f"{folder} can be written, renamed and locked")


def _disk(place: Location) -> Finding:
    """Look where the workspace lies, or where copies of what lies elsewhere go."""
    folder = place.local if place.is_local else Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder if folder.is_dir() else Path("/")).free / 1e9
    return Finding("disk", free >= FREE_GB, f"{free:,.1f} GB free", "free some space, or move the workspace")


def _port() -> Finding:
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            with socket.create_connection(server.getsockname(), timeout=2):
                pass
    except OSError as error:
        return Finding(
            "loopback", False, f"no connection to 127.0.0.1: {error}", "Spark and Horovod need loopback ports"
        )
    return Finding("loopback", True, "ports on 127.0.0.1 can be opened and reached")


def _committer(path: Path) -> Finding:
    """Refuse the v2 file committer: a task that died while committing may leave a file behind that is then doubled."""
    try:
        given = read_spark_conf(path)
    except CrossweaveError as error:
        return Finding("spark settings", False, error.message, error.hint)
    version = given.get("spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version", "1")
    return Finding("spark settings", version == "1", f"{path}, file committer v{version}", "set the committer to 1")
