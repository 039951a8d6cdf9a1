"""Runs jobs on the tiny shop and reads what they leave behind."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossweave import pipeline
from crossweave.config import Settings
from crossweave.feeding.datasets import TensorFile, describe_file, part_files
from crossweave.runtime.job import StageList, run_job
from crossweave.storage.location import Location
from crossweave.storage.records import Place
from crossweave.tables import served
from crossweave.tables.receipt_details import Ingested, Scored, Tensors, Trained
from crossweave.tables.receipts import Receipt
from crossweave.tables.store import TableStore

REPOSITORY = Path(__file__).resolve().parents[1]

TINY = {
    "spark.shuffle_partitions": 2,
    "model.dim": 16,
    "model.projector_hidden": 16,
    "train.max_epochs": 4,
    "train.validate_every": 1,
    "train.batch_users": 16,
    "tensors.row_group_rows": 8,
    "score.top_k": 20,
    "evaluate.ks": [5, 20],
    "evaluate.bootstrap": 50,
    "evaluate.sample_users": 2,
    "embed.batch_rows": 16,
}
DATE = "2026-01-02"
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m"
"""Tests are over before the better compiler pays for itself; this one alone would get too little room for its code."""


def setting(values: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that set values; two underscores stand for a dot."""
    return [w for key, value in values.items() for w in ("--set", f"{key.replace('__', '.')}={json.dumps(value)}")]


def rows_of(workspace: Place, table: str) -> list[dict[str, Any]]:
    """Return the rows of the newest version of a table."""
    rows: list[dict[str, Any]] = (
        TableStore(Location.of(workspace) / "tables").required(table).rows_where(None).to_pylist()
    )
    return rows


def lists_of(workspace: Place) -> list[tuple[Any, ...]]:
    """Return what users are recommended, to the last digit."""
    columns = ("user_id", "rank", "item_id", "score")
    return sorted(tuple(row[name] for name in columns) for row in rows_of(workspace, "recommendations"))


def hear() -> None:
    """Let a process begin as on a terminal: what a shell starts in the background ignores SIGINT, nohup SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@dataclass
class Chain:
    """A workspace and the means to run jobs in it."""

    workspace: Path
    root: Path
    said: list[str] = field(default_factory=list)

    def words(self, conf: list[Path] | None = None, date: str = DATE, **pairs: Any) -> list[str]:
        """Return a job's command line; pairs are --set pairs with two underscores for a dot."""
        values = TINY | {"workspace": str(self.workspace), "inputs.root": str(self.root)}
        files = conf or [REPOSITORY / "conf" / "local.yaml"]
        return [*(word for file in files for word in ("--conf", str(file))), *setting(values | pairs), "--date", date]

    def copy(self, folder: Path) -> Chain:
        """Return a copy of the workspace in a new folder, over the same input."""
        shutil.copytree(self.workspace, folder, symlinks=True)
        return Chain(folder, self.root)

    def run(self, stages: StageList | Callable[..., StageList] = pipeline.stages, **pairs: Any) -> dict[str, Any]:
        """Run stages in this process and return run_result.json; the exit code must be the file's."""
        code = self.attempt(stages, **pairs)
        result = json.loads((self.workspace / "runs" / "latest" / "run_result.json").read_text(encoding="utf-8"))
        assert result["exit_code"] == code
        return result

    def attempt(self, stages: StageList | Callable[..., StageList] = pipeline.stages, **pairs: Any) -> int:
        """Run stages in this process and return the exit code; `said` keeps what was said."""
        self.said = []

        def checked(settings: Settings) -> StageList:
            """Refuse what the whole chain would."""
            for one in pipeline.stages(settings):
                one.check(settings)
            return stages(settings) if callable(stages) else stages

        return run_job("pipeline", checked, self.words(**pairs), self.said.append)

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table's newest version."""
        return rows_of(self.workspace, name)

    def features(self) -> dict[str, dict[str, bytes]]:
        """Return the vectors of every feature table, by modality and content hash."""
        folders = (self.workspace / "tables" / "features").iterdir()
        return {
            folder.name.rpartition("-")[0]: {
                row["content_hash"]: row["vector"] for row in self.table(f"features/{folder.name}")
            }
            for folder in folders
        }


def described(folder: Place) -> tuple[TensorFile, ...]:
    """Describe the files of a dataset of tensors."""
    return tuple(describe_file(place) for place in part_files(Location.of(folder)))


def chain_of(run_id: str, reads: dict[str, int], writes: dict[str, int], folder: str = "x") -> served.Chain:
    """Return receipts of one run, whose tensors, model and scored vectors lie in folders of one name."""
    details = Ingested(), Tensors(folder, "warm"), Trained(folder), Scored("warm", scored=folder, origin=run_id)
    names = ("ingest", "tensors", "train", "score")
    receipts = (Receipt(s, s, run_id, reads, writes, 1, own) for s, own in zip(names, details, strict=True))
    return served.Chain(*receipts)


def stage(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one stage's entry."""
    return next(entry for entry in result["stages"] if entry["name"] == name)


@dataclass
class Night:
    """The shop's first whole run."""

    chain: Chain
    result: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of that run, whichever came after it."""
        return self.chain.workspace / "runs" / str(self.result["run_id"])
