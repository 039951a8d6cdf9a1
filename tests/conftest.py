"""What all tests share: one local Spark session, settings with a workspace of their own, and a clean process."""

from __future__ import annotations

import datetime
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pyspark import SparkContext
from pyspark.sql import SparkSession
from support import QUICK_JAVA, Chain, Night

from crossweave.config import Settings, load_settings
from crossweave.demo import generate_shop
from crossweave.runtime.plan import plan_context
from crossweave.runtime.session import open_session
from crossweave.stages.train import TRAIN
from crossweave.training.plan import TrainingPlan
from crossweave.training.planning import training_plan as plan_training

pytest_plugins = ["scheduled", "standalone", "stores"]
REPOSITORY = Path(__file__).resolve().parents[1]
CONF = REPOSITORY / "conf"
SPARK_OPTIONS = {
    "spark.ui.enabled": "false",
    "spark.sql.codegen.cache.maxEntries": "5000",  # a chain's plans are the next one's
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
}

torch.set_num_threads(1)  # of tests' small tensors: two threads take five times as long; stages set their own

# Workers and child processes inherit the environment; it is set before anything can start one.
warnings.filterwarnings("ignore", category=FutureWarning)  # Petastorm reads through pyarrow's legacy dataset API
os.environ["PYTHONWARNINGS"] = "ignore::FutureWarning,ignore::DeprecationWarning"
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(REPOSITORY / "lib"), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH")])
)

MakeSettings = Callable[..., Settings]

MISSING = ("not installed", "could not import")
"""What reasons of skipped tests say that want a package."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say where CI, which installs every package, skipped a test for want of one."""
    if "CROSSWEAVE_ALL_PACKAGES" in os.environ and _wanting(terminalreporter):
        terminalreporter.write_line("a package is missing that CI must have: see the skipped tests", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if "CROSSWEAVE_ALL_PACKAGES" in os.environ and session.exitstatus == 0 and _wanting(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _wanting(reporter: Any) -> bool:
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    return any(mark in reason for reason in reasons for mark in MISSING)


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is left in the temporary folder (memory-mapped arrays of the host, for one) among pytest's own."""
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("tmp"))
    yield
    tempfile.tempdir = before[0]
    if before[1] is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before[1]


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of all tests: local[2], loopback, UTC, opened by the code that the jobs use.

    A test that runs a stage or a job in this process should ask for this fixture, so that the stage finds it.
    """
    folder = tmp_path_factory.mktemp("spark")
    options = SPARK_OPTIONS | {"spark.local.dir": str(folder), "spark.sql.warehouse.dir": str(folder / "warehouse")}
    words = [word for key, value in options.items() for word in ("--conf", f"{key}={value}")]
    java = f"{QUICK_JAVA} -Dlog4j2.configurationFile=file:{CONF / 'spark' / 'log4j2.properties'}"
    words += ["--master", "local[2]", "--driver-memory", "2g", "--driver-java-options", java, "pyspark-shell"]
    os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join(words)
    SparkContext._ensure_initialized()  # from here on SparkConf knows the master, as it does under spark-submit
    del os.environ["PYSPARK_SUBMIT_ARGS"]
    session = open_session(load_settings([CONF / "local.yaml"], ["spark.shuffle_partitions=4"]), "crossweave-tests")
    yield session
    session.stop()


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Return a function that loads settings with a workspace of the test's own.

    `make_settings()` is conf/local.yaml; words name other conf files, pairs are those of --set, with two underscores
    for a dot: `make_settings("movies.yaml", train__ranks=1, inputs__root="/data")`.
    """

    def make(*files: str | Path, **pairs: Any) -> Settings:
        named = {key.replace("__", "."): value for key, value in pairs.items()}
        values = {"workspace": str(tmp_path / "ws"), "spark.shuffle_partitions": 4} | named
        chosen = [CONF / file for file in files or ("local.yaml",)]
        return load_settings(chosen, [f"{key}={json.dumps(value)}" for key, value in values.items()])

    return make


@pytest.fixture(autouse=True)
def _clean_process() -> Iterator[None]:
    """Undo what a run or a test changes in this process: signal handler, logger, and the threads of torch."""
    handler, logger = signal.getsignal(signal.SIGTERM), logging.getLogger("crossweave")
    state, threads = (logger.propagate, logger.level), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
    logger.propagate, logger.level = state


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest shop that has every broken case."""
    folder = tmp_path_factory.mktemp("shop") / "shop"
    generate_shop(folder, items=60, users=40, interactions=800, seed=17)
    return folder


@pytest.fixture
def new_chain(tmp_path: Path, shop: Path, spark: SparkSession) -> Chain:
    """A workspace of the test's own over the shop."""
    return Chain(tmp_path / "ws", shop)


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory, shop: Path, spark: SparkSession) -> Night:
    """The whole chain, once, with two Horovod ranks. Tests read it; those that write use `new_chain`."""
    chain = Chain(tmp_path_factory.mktemp("night") / "ws", shop)
    return Night(chain, chain.run())


@pytest.fixture
def training_plan(night: Night, tmp_path: Path) -> Callable[..., TrainingPlan]:
    """Return a function that plans a training on the night's tensors into a folder of the test's own.

    Pairs are settings, with two underscores for a dot.
    """

    def make(**pairs: Any) -> TrainingPlan:
        words = night.chain.words(**pairs)
        files = [Path(words[i + 1]) for i, word in enumerate(words) if word == "--conf"]
        given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        context = plan_context(load_settings(files, given), datetime.date(2026, 1, 2))
        manifest = TRAIN.basis(context).manifest
        return plan_training(context.settings, manifest, tmp_path, tmp_path / "progress.jsonl", "warm")

    return make
