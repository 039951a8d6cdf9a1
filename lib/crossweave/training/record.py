"""What rank 0 tells while it trains: TensorBoard scalars, and lines that the driver follows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from crossweave.storage.location import Location


class Recorded(Protocol):
    """What a plan says of where to tell."""

    @property
    def folder(self) -> Location:
        """Of the training; TensorBoard lies below it."""

    @property
    def progress(self) -> Location:
        """Of the lines."""


class TrainingRecord:
    """The scalars and lines of one start; silent on other ranks than 0."""

    def __init__(self, plan: Recorded, rank: int, first_epoch: int) -> None:
        self._place = plan.progress if rank == 0 else None
        self._lines = plan.progress.text() if rank == 0 and plan.progress.is_file() else ""
        self._folder, self._board = plan.folder / "tensorboard", None
        if rank == 0:
            self._scratch = None if self._folder.is_local else tempfile.TemporaryDirectory(prefix="crossweave-")
            self._log = self._folder.local if self._scratch is None else Path(self._scratch.name)
            # What an interrupted start wrote after its last checkpoint is purged.
            self._board = SummaryWriter(str(self._log), purge_step=first_epoch)

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show values of an epoch."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, epoch)

    def flush(self) -> None:
        """Put the scalars on disk."""
        if self._board is not None:
            self._board.flush()
            if self._scratch is not None:
                for path in self._log.iterdir():
                    (self._folder / path.name).upload(path)

    def line(self, entry: Mapping[str, Any]) -> None:
        """Tell the driver: figures of an epoch, or `{"warning": text}`."""
        if self._place is not None:
            self._lines += json.dumps(entry) + "\n"
            self._place.put(self._lines)

    def close(self) -> None:
        """Close the board."""
        if self._board is not None:
            self.flush()
            self._board.close()
