"""One start of a job: its lock, folder, log, stage records and `run_result.json`."""

from __future__ import annotations

import datetime
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crossweave.config import Settings, settings_yaml
from crossweave.errors import CrossweaveError, SettingsError
from crossweave.runtime.log import close_log, open_log
from crossweave.runtime.nights import write_page
from crossweave.runtime.record import StageRecord
from crossweave.runtime.result import RunResult
from crossweave.runtime.stage import Stage, StageContext, perform
from crossweave.runtime.stopping import Stopped, leave_word, too_late
from crossweave.runtime.threads import torch_threads
from crossweave.runtime.tracking import Tracker, facts_of, publish
from crossweave.storage.lease import hold
from crossweave.storage.litter import remove_litter
from crossweave.storage.location import Location
from crossweave.storage.names import temporary

log = logging.getLogger(__name__)
RUN_TOKEN = "CROSSWEAVE_RUN_TOKEN"
"""Environment variable: the end of the run's name, for who starts it elsewhere and looks for its record."""


class Run:
    """Runs stages one after another and leaves a truthful `run_result.json`, however it ends."""

    def __init__(self, job: str, settings: Settings, date: datetime.date, trackers: Sequence[Tracker] = ()) -> None:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        self.run_id = f"{stamp}-{job}-{os.environ.get(RUN_TOKEN) or uuid.uuid4().hex[:6]}"
        self.place = Location.of(settings.workspace) / "runs" / self.run_id
        self.result = RunResult(self.place, self.run_id, job, date)
        self.trackers, self.warnings, self._held = trackers, list[str](), False
        remote = None if self.place.is_local else tempfile.TemporaryDirectory(prefix="crossweave-run-")
        self._scratch = remote  # removed with this object
        self.folder = self.place.local if remote is None else Path(remote.name)
        self.context = StageContext(settings, job, self.run_id, date, self.folder, self.result.stages)

    def execute(self, stages: Sequence[Stage[Any]], on_stage: Callable[[StageRecord], None]) -> RunResult:
        """Run the stages; errors end up in the result, never in a traceback on the caller's screen."""
        try:
            self.folder.mkdir(parents=True, exist_ok=not self.place.is_local)
            (self.place / "config.yaml").put(settings_yaml(self.context.settings))
            self.result.write()  # says "interrupted" until the end is known: the truth if this process is killed
            handler = open_log(self.folder / "log.jsonl")
        except Exception as error:
            self.result.fail(error)
            return self.result
        leave_word(self._last_words)
        try:
            with self._lock():
                self._held = True
                self._point_latest()
                self.context.check_before_work(stages)
                for stage in stages:
                    on_stage(self._one(stage))
            self.result.succeed()
        except BaseException as error:
            if isinstance(error, CrossweaveError):
                log.error("%s: %s", type(error).__name__, error.message, exc_info=error)
            else:
                log.exception("unexpected %s", type(error).__name__)
            self.result.fail(error)
            if not isinstance(error, Exception | KeyboardInterrupt):
                raise
        finally:
            too_late(lambda: self.result.exit_code)
            self._conclude(handler)
        return self.result

    def _conclude(self, handler: logging.Handler) -> None:
        """Write down how the run ended, and tell the trackers; the exit code stands even where that fails."""
        try:
            self.result.write()
        except Exception as error:  # no room for the record itself: the exit code must still tell
            self.result.fail(error)
        settings = self.context.settings
        self.warnings = publish(self.trackers, facts_of(self.result, settings, self.folder), settings.tracking.seconds)
        if self._held:  # else the run that holds the workspace makes it
            write_page(self.context.workspace, gated=settings.evaluate.gate is not None)
        with suppress(OSError):
            close_log(handler)
        with suppress(CrossweaveError, OSError):
            self._hand_over()

    def _hand_over(self) -> None:
        """Copy what libraries wrote on this machine to the run's folder, where that lies elsewhere."""
        if not self.place.is_local:
            self.place.upload_folder(self.folder)

    def _last_words(self) -> int:
        """Write down that the run was stopped; returns its exit code."""
        self.result.fail(Stopped())
        self.result.write()
        return self.result.exit_code

    def _one(self, stage: Stage[Any]) -> StageRecord:
        record = StageRecord(stage.name)
        self.result.stages.append(record)
        log.info("stage %s starts", stage.name)
        try:
            with torch_threads(self.context.settings.spark.driver_threads):
                perform(stage, self.context, record)
        finally:
            record.seconds = record.elapsed
        self.result.write()
        self._hand_over()
        log.info("stage %s ends after %.1f s: %s", stage.name, record.seconds, record.as_json())
        return record

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with hold(self.context.workspace, self.run_id):
            gone = remove_litter(self.context.workspace)
            if gone:
                log.info("removed %d files and folders that killed runs had left unfinished", gone)
            yield

    def _point_latest(self) -> None:
        latest = self.place.parent / "latest"
        if not latest.is_local:
            latest.put(self.run_id)
            return
        if latest.local.is_dir() and not latest.local.is_symlink():
            raise SettingsError(f"{latest} is a folder where a link to the newest run should be", "move it away")
        link = temporary(latest.local)
        link.symlink_to(self.run_id)
        link.replace(latest.local)
