"""What the benchmarks share: timing, a Spark session, and the file that keeps a result."""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "benchmarks")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
RESULTS = ROOT / "benchmarks" / "results"


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least wall time of several runs, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def spark(cores: int, **settings: str) -> Any:
    """A local session with so many cores."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(f"local[{cores}]").appName("benchmark")
    defaults = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "4g",
        "spark.sql.shuffle.partitions": str(2 * cores),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    for key, value in {**defaults, **settings}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def keep(name: str, title: str, target: str, rows: list[tuple[str, str]]) -> None:
    """Print a result and write it to results/NAME.md."""
    import torch

    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [
        f"# {title}",
        "",
        f"`python benchmarks/{name}.py`, {today}, {machine}, torch {torch.__version__}. Target: {target}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in rows),
    ]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
