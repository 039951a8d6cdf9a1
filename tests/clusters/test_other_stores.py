"""The whole chain with input and workspace in an object store, by the commands that a user types."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyspark
import pytest
from stores import S3Server
from support import REPOSITORY, Chain, Night

from crossweave.storage.location import Location
from crossweave.storage.records import read_json
from crossweave.tables.store import TableStore

LONGEST_SECONDS = 600
QUIET = f"-Dlog4j2.configurationFile=file:{REPOSITORY / 'conf' / 'spark' / 'log4j2.properties'}"


class Remote:
    """A workspace in a store, and jobs in processes of their own, which work in a folder of the test's."""

    def __init__(self, chain: Chain, environment: dict[str, str], folder: Path) -> None:
        self.chain, self.workspace, self.folder = chain, Location.of(str(chain.workspace)), folder
        words = ["--properties-file", str(REPOSITORY / "conf" / "spark" / "local.conf"), "--master", "local[2]"]
        own = {
            "PYSPARK_SUBMIT_ARGS": shlex.join([*words, "--driver-java-options", QUIET, "pyspark-shell"]),
            "SPARK_HOME": str(Path(pyspark.__file__).parent),
        }
        self.environment = {k: v for k, v in os.environ.items() if k != "PYSPARK_GATEWAY_PORT"} | environment | own

    def start(self, job: str, **pairs: Any) -> subprocess.Popen[str]:
        """Start a job."""
        command = [sys.executable, str(REPOSITORY / "jobs" / f"{job}.py"), *self.chain.words(**pairs)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, **pipes)  # type: ignore[call-overload]

    def run(self, job: str = "pipeline", code: int = 0, **pairs: Any) -> dict[str, Any]:
        """Run a job to its end and return its record."""
        process = self.start(job, **pairs)
        said, _ = process.communicate(timeout=LONGEST_SECONDS)
        assert process.returncode == code, said[-4000:]
        records = [line for line in said.splitlines() if line.startswith("record: ")]
        record: dict[str, Any] = read_json(Location.of(records[-1].removeprefix("record: ")))
        return record

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table's newest version."""
        rows: list[dict[str, Any]] = TableStore(self.workspace / "tables").required(table).rows_where(None).to_pylist()
        return rows


def upload(folder: Path, place: Location) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            (place / path.relative_to(folder).as_posix()).upload(path)


def listed(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((row["user_id"], row["rank"], row["item_id"], row["score"]) for row in rows)


@pytest.mark.slow
def test_input_and_workspace_in_a_bucket_give_the_lists_of_a_local_run(
    night: Night, shop: Path, s3: Location, s3_server: S3Server, tmp_path: Path
) -> None:
    upload(shop, s3 / "shop")
    remote = Remote(Chain(f"{s3}ws", f"{s3}shop"), s3_server.environment, tmp_path)  # type: ignore[arg-type]
    first = remote.run()
    assert (first["status"], first["metrics"]["embed.text.encoded"] > 0) == ("ok", True)
    assert listed(remote.rows("recommendations")) == listed(night.chain.table("recommendations"))
    assert (remote.workspace / "runs" / first["run_id"] / "report.html").is_file()
    assert not list(tmp_path.iterdir())  # a URL taken for a path of this machine would lie here
