"""Checks of a cluster as `--spark-conf` describes it: its executors, what they have, and what they reach."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark import SparkContext, cloudpickle

from crossweave.config import Settings
from crossweave.errors import CrossweaveError
from crossweave.runtime import cluster_probe
from crossweave.runtime.cluster_probe import Answer, Asked, probe, versions_here
from crossweave.runtime.faults import translate
from crossweave.runtime.findings import Finding
from crossweave.runtime.meeting import Meeting
from crossweave.runtime.session import open_session
from crossweave.storage.location import Location

SAME = ("pyspark", "torch", "pyarrow", "petastorm", "horovod", "numpy", "deltalake")
"""Packages that driver and executors must have in one version."""
START_SECONDS = 180.0  # for the cluster to give a driver and its first executor
MOST_SECONDS = 120.0  # for slots; a training waits for train.start_timeout_seconds
SHIP = "give executors the environment that the driver has: spark.pyspark.python, or --archives; docs/clusters.md"


@dataclass(frozen=True)
class Examined:
    """What the executors answered, and the driver's side of it."""

    answers: Sequence[Answer]
    together: int  # tasks that ran side by side
    here: dict[str, str]  # versions
    conf: dict[str, str]  # of the session


def examine_cluster(settings: Settings) -> Iterator[Finding]:
    """Start a session and yield the findings; probe files in the workspace are removed."""
    try:
        with _given_up(START_SECONDS, _end_jvm):
            context = open_session(settings, "crossweave-doctor").sparkContext
    except Exception as error:
        yield Finding("cluster", False, _reason(error), "check the settings file, and whether the cluster has room")
        return
    conf = dict(context.getConf().getAll())
    yield Finding("cluster", True, f"{conf.get('spark.master')}, application {context.applicationId}")
    yield from _of_settings(conf)
    mark, content = Location.of(settings.workspace) / f".probe-{uuid.uuid4().hex}", uuid.uuid4().hex
    try:
        mark.put(content)
        examined = _examine(context, settings, conf, (mark, content))
    except Exception as error:
        yield Finding("executors", False, _reason(error), SHIP)
        return
    finally:
        with contextlib.suppress(Exception):
            mark.remove()
    hosts = sorted({answer.host for answer in examined.answers})
    pythons = sorted({answer.python for answer in examined.answers})
    seen = f"{len(examined.answers)} tasks on {', '.join(hosts)}, with the Python of {', '.join(pythons)}"
    yield Finding("executors", True, seen)
    for check in (_slots, _network, _versions, _workspace, _gpus):
        yield check(examined, settings)


def _of_settings(conf: dict[str, str]) -> Iterator[Finding]:
    """Judge what can be read from the settings alone."""
    copies = conf.get("spark.speculation", "false") == "true"
    yield Finding(
        "speculation",
        not copies,
        "on: Spark starts second copies of slow tasks" if copies else "off",
        "set spark.speculation false for training: a second copy of a rank is waited for in vain",
        warns=True,
    )
    dynamic = conf.get("spark.dynamicAllocation.enabled", "false") == "true"
    yield Finding(
        "allocation",
        not dynamic,
        "dynamic: executors come and go" if dynamic else "static",
        "set spark.dynamicAllocation.enabled false, or minExecutors to what train.ranks need: ranks end with executors",
        warns=True,
    )


def _examine(context: SparkContext, settings: Settings, conf: dict[str, str], mark: tuple[Location, str]) -> Examined:
    """Run as many tasks side by side as there are slots, and at least one a rank."""
    slots = context.defaultParallelism // int(conf.get("spark.task.cpus", "1"))
    tasks = max(settings.train.ranks, slots)
    seconds = min(MOST_SECONDS, float(settings.train.start_timeout_seconds))
    local = conf.get("spark.master", "").startswith("local")
    address = "127.0.0.1" if local else conf.get("spark.driver.host", "127.0.0.1")
    meeting = Meeting(tasks, "127.0.0.1" if local else "")
    asked = Asked([(address, meeting.port)], 2 * seconds, SAME, str(mark[0]), mark[1])
    cloudpickle.register_pickle_by_value(cluster_probe)
    try:
        with meeting.open(seconds), _given_up(START_SECONDS + seconds, context.cancelAllJobs):
            answers = context.parallelize(range(tasks), tasks).map(lambda _: probe(asked)).collect()
    finally:
        cloudpickle.unregister_pickle_by_value(cluster_probe)
    return Examined([Answer(**answer) for answer in answers], meeting.most, versions_here(SAME), conf)


def _slots(examined: Examined, settings: Settings) -> Finding:
    wanted, found = settings.train.ranks, examined.together
    mend = "raise spark.executor.instances or spark.executor.cores, or lower train.ranks; dynamic allocation needs room"
    return Finding("slots", found >= wanted, f"{found} tasks ran side by side, train.ranks is {wanted}", mend)


def _network(examined: Examined, settings: Settings) -> Finding:
    lost = sorted({answer.host for answer in examined.answers if not answer.reached})
    found = f"no connection to the driver from {', '.join(lost)}" if lost else "executors reach the driver's ports"
    mend = "open all ports from the executors to the driver, or set spark.driver.host; Horovod's ranks meet there"
    return Finding("rendezvous", not lost, found, mend)


def _versions(examined: Examined, settings: Settings) -> Finding:
    """Name each difference with the hosts that have it."""
    others = defaultdict(set)
    for answer in examined.answers:
        for name, version in answer.versions.items():
            if version != examined.here[name]:
                others[f"{name} {version} instead of {examined.here[name]}"].add(answer.host)
    found = "; ".join(f"{what} on {', '.join(sorted(hosts))}" for what, hosts in sorted(others.items()))
    return Finding("versions", not others, found or "the executors' are the driver's", SHIP)


def _workspace(examined: Examined, settings: Settings) -> Finding:
    place = Location.of(settings.workspace)
    lost = sorted({f"{answer.host}: {answer.workspace}" for answer in examined.answers if answer.workspace})
    mend = "the rights, variables and network of the executors must be the driver's; docs/stores.md"
    if place.is_local:
        mend = "name a place that every machine sees: a shared folder, s3://BUCKET/ws or hdfs:///user/me/ws"
    return Finding("store", not lost, "; ".join(lost) or f"{place} can be read and written by executors", mend)


def _gpus(examined: Examined, settings: Settings) -> Finding:
    wanted = {"train.device": settings.train.device, "embed.device": settings.embed.device}
    asking = [name for name, device in wanted.items() if device == "cuda"]
    without = sorted({answer.host for answer in examined.answers if not answer.gpus})
    most = max((answer.gpus for answer in examined.answers), default=0)
    if not asking or not without:
        return Finding("gpus", True, f"{most} a task" if most else "none, and none is asked for")
    mend = f"set {' and '.join(asking)} to auto, or give tasks GPUs: spark.task.resource.gpu.amount"
    return Finding("gpus", False, f"{' and '.join(asking)} is cuda, and tasks see none on {', '.join(without)}", mend)


def _end_jvm() -> None:
    process = getattr(SparkContext._gateway, "proc", None)
    if process is not None:
        process.kill()


@contextlib.contextmanager
def _given_up(seconds: float, end: Callable[[], Any]) -> Iterator[None]:
    """End what the body waits for after some time; raises TimeoutError then."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        end()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise TimeoutError(f"nothing came of it within {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()


def _reason(error: Exception) -> str:
    """Say in a line why executors did not answer."""
    known = error if isinstance(error, CrossweaveError) else translate(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("at ", "... "))]  # where in Java it was
    telling = [line for line in lines if "Error" in line or "Cannot run program" in line or "RuntimeError" in line]
    said = (telling or lines or [type(error).__name__])[-1][:300]
    return said if known is None or isinstance(error, TimeoutError) else f"{known.message} ({said})"
