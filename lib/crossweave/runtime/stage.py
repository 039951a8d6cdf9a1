"""What a stage is: its name, what decides its result, and how it runs. `perform` owns the rest, for all alike."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pyspark.sql import SparkSession

from crossweave.config import Settings
from crossweave.runtime.progress import Progress
from crossweave.runtime.record import StageRecord
from crossweave.runtime.session import open_session
from crossweave.storage.litter import STAGING
from crossweave.storage.location import Location
from crossweave.storage.records import digest
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.store import TableStore

D = TypeVar("D")


class StageContext:
    """What a stage is given: the settings, the run's date and folder, and Spark on first use."""

    def __init__(
        self, settings: Settings, job: str, run_id: str, date: datetime.date, folder: Path, records: list[StageRecord]
    ) -> None:
        self.settings = settings
        self.job = job
        self.run_id = run_id
        self.date = date
        self.folder = folder  # of this machine, for what libraries write; it is part of the run's folder in the end
        self.records = records  # of the stages that this run has done so far, for the report
        self.workspace = Location.of(settings.workspace)
        self.place = self.workspace / "runs" / run_id  # the run's folder, for what stages write
        self.staging = self.workspace / STAGING / run_id  # for a stage's intermediates, which the workers see too
        self.receipts = Receipts(self.workspace)
        self._unchecked: tuple[Stage[Any], ...] = ()

    def check_before_work(self, stages: Iterable[Stage[Any]]) -> None:
        """Let these stages check their settings with Spark before the first one that has something to do."""
        self._unchecked = tuple(stages)

    def check_now(self) -> None:
        """Do so, once."""
        stages, self._unchecked = self._unchecked, ()
        for stage in stages:
            stage.check_with_spark(self)

    @cached_property
    def tables(self) -> TableStore:
        """The tables of the workspace."""
        return TableStore(self.workspace / "tables")

    @property
    def spark(self) -> SparkSession:
        """The session; a night with nothing to do never starts one."""
        return open_session(self.settings, "crossweave")

    def part(self, name: str, settings: Settings) -> StageContext:
        """Return the context of a part of this run with settings and a folder of its own."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        part = StageContext(settings, self.job, self.run_id, self.date, folder, self.records)
        part.place, part.staging = self.place / name, self.staging / name
        return part

    def progress(self, label: str, total: int, unit: str) -> Progress:
        """Start showing the progress of one piece of work."""
        return Progress(label, total, unit)


@dataclass(frozen=True)
class Basis:
    """What a stage works from tonight. Stages add what they opened to find it out, so that it is opened once."""

    reads: dict[str, int]  # table -> version
    facts: Mapping[str, Any]  # all that decides the result: identities of tables and artifacts, settings, code version

    @cached_property
    def fingerprint(self) -> str:
        """Of the facts."""
        return digest(self.facts)

    def receipt(self, context: StageContext, record: StageRecord, details: D) -> Receipt[D]:
        """Return the receipt of what a run made of this basis: it wrote and counted what the record says."""
        return Receipt(
            record.name, self.fingerprint, context.run_id, self.reads, record.writes, record.total.rows_in, details
        )


B = TypeVar("B", bound=Basis)


class Stage(ABC, Generic[B]):
    """One stage of the chain; it holds no state of a run."""

    name: ClassVar[str]
    current: ClassVar[str] = "nothing has changed since the last run"  # what is said where there is nothing to do
    keeps_receipt: ClassVar[bool] = True  # False: nothing of the workspace depends on what it did

    def check(self, settings: Settings) -> None:
        """Raise SettingsError for settings that the stage could not use; asked before anything is started."""

    def check_with_spark(self, context: StageContext) -> None:
        """Raise SettingsError for settings that only Spark can judge; asked before the first stage that runs."""

    @abstractmethod
    def basis(self, context: StageContext) -> B:
        """Return what decides tonight's result; raises SettingsError where a stage before this one never ran."""

    def made(self, context: StageContext, basis: B, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Return the receipt of a result with this basis that is there already, None where it must be made."""
        return last if last is not None and last.fingerprint == basis.fingerprint else None

    @abstractmethod
    def run(self, context: StageContext, basis: B, last: Receipt[Any] | None, record: StageRecord) -> Receipt[Any]:
        """Make the result, after that of the `last` receipt; counts, figures and notes go into the record."""

    def nothing_to_do(self, context: StageContext, basis: B, receipt: Receipt[Any], record: StageRecord) -> None:
        """Tell the record of a night on which the result is there."""
        record.nothing_to_do(receipt.rows, basis.reads, self.current)

    def settle(self, context: StageContext, basis: B, receipt: Receipt[Any], record: StageRecord) -> None:
        """Do what follows from a published receipt, be it tonight's or an earlier one."""

    def is_current(self, context: StageContext) -> bool:
        """Say whether there is nothing to do; changes nothing."""
        return self.made(context, self.basis(context), self._last(context)) is not None

    def _last(self, context: StageContext) -> Receipt[Any] | None:
        return context.receipts.latest(self.name) if self.keeps_receipt else None


def perform(stage: Stage[Any], context: StageContext, record: StageRecord) -> None:
    """Run a stage, or find that its result is there; its receipt is published last, when the ledgers are reconciled."""
    basis, last = stage.basis(context), stage._last(context)
    record.reads = basis.reads
    receipt = stage.made(context, basis, last)
    if receipt is not None:
        stage.nothing_to_do(context, basis, receipt, record)
    else:
        context.check_now()
        receipt = stage.run(context, basis, last, record)
        record.check()
    if stage.keeps_receipt and receipt != last:
        context.receipts.publish(receipt)
    stage.settle(context, basis, receipt, record)
