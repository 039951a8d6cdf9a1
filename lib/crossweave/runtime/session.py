"""The Spark session that every stage shares."""

from __future__ import annotations

import locale
import os
import shlex
import signal
import sys
import threading
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from crossweave.config import Settings
from crossweave.runtime import python_daemon
from crossweave.runtime.spark_conf import given_settings
from crossweave.runtime.stores_of_spark import beside, jars_for, schemes_of, store_settings


def open_session(settings: Settings, app_name: str) -> SparkSession:
    """Return the running session, or start one.

    The master and the cluster's settings come from spark-submit; without one, all local cores are used. Local mode
    gets at least as many task slots as training has ranks, since Horovod's ranks run side by side as tasks.
    """
    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ["LANGUAGE"] = "C"  # the JVM passes on what the system says of a fault: in one language
    if locale.getencoding().upper() != "UTF-8":
        os.environ["LC_ALL"] = "C.UTF-8"  # Java, started below, names files in the letters of its locale
    schemes = schemes_of(settings)
    _bring(jars_for(schemes))
    SparkContext._ensure_initialized()  # the JVM knows the master; until it is asked, SparkConf is empty
    # Only spark-submit heeds this setting by itself; PySpark's workers, and Horovod's ranks, go by the variable.
    os.environ["PYSPARK_PYTHON"] = str(SparkConf().get("spark.pyspark.python") or os.environ["PYSPARK_PYTHON"])
    given = SparkConf().get("spark.master", "local[*]")
    builder = SparkSession.builder.appName(app_name)
    cores = os.cpu_count() or 1
    if given == "local[*]":
        cores = max(cores, settings.train.ranks)
        builder = builder.master(f"local[{cores}]")
    if given.startswith("local"):
        # A laptop's session is nobody else's business: driver, executors and Horovod's rendezvous stay on loopback.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
        builder = builder.config("spark.sql.shuffle.partitions", str(2 * cores))
        builder = builder.config("spark.python.daemon.module", python_daemon.__name__)
        found = [str(Path(python_daemon.__file__).parents[2])]
    else:
        # Workers import from these by themselves; what they start, as Horovod's ranks, goes by the variable.
        found = [Path(name).name for name in SparkConf().get("spark.submit.pyFiles", "").split(",")]
    seen = [SparkConf().get("spark.executorEnv.PYTHONPATH", ""), *found]
    builder = builder.config("spark.executorEnv.PYTHONPATH", os.pathsep.join(filter(None, seen)))
    if settings.spark.shuffle_partitions is not None:
        builder = builder.config("spark.sql.shuffle.partitions", str(settings.spark.shuffle_partitions))
    fixed = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",  # a value that does not fit is an error, never a silent NULL
        "spark.sql.adaptive.coalescePartitions.enabled": "true",
        # A file that does not say who wrote it has its dates as all but Spark 2 and old Hive count them. Otherwise one
        # date before 1582, or timestamp before 1900, ends the night. Files that name Spark 2 are rebased as ever.
        "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
        "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
        "spark.sql.parquet.columnarReaderBatchSize": "256",  # 4096 pictures of 1 MB would be 4 GB
        "spark.hadoop.parquet.page.verify-checksum.enabled": "true",  # of pages that have one
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(settings.embed.batch_rows),
        "spark.python.worker.reuse": "true",
        # The v2 committer may leave a file of a dead attempt beside that of its successor.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "1",
    }
    for key, value in (fixed | store_settings(schemes, executors=not given.startswith("local"))).items():
        builder = builder.config(key, value)
    on_interrupt = signal.getsignal(signal.SIGINT)
    session = builder.getOrCreate()
    if threading.current_thread() is threading.main_thread():
        # Spark's own handler would speak to the JVM on a connection that may be waiting for it: runtime/stopping.py.
        signal.signal(signal.SIGINT, on_interrupt)
    return session


def _bring(options: dict[str, str]) -> None:
    """Add settings to the words that a JVM of our own will be started with; one that runs has its jars."""
    if SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    words = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell"))
    more = [word for pair in beside(options, given_settings(words)).items() for word in ("--conf", "=".join(pair))]
    os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join([*more, *words])
