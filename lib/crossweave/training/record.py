"""What rank 0 tells while it trains: TensorBoard scalars, and lines that the driver follows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from crossweave.training.plan import TrainingPlan


class TrainingRecord:
    """The scalars and lines of one start; silent on other ranks than 0."""

    def __init__(self, plan: TrainingPlan, rank: int, first_epoch: int) -> None:
        self._path = plan.progress if rank == 0 else None
        # What an interrupted start wrote after its last checkpoint is purged.
        log = str(plan.folder / "tensorboard")
        self._board = SummaryWriter(log, purge_step=first_epoch) if rank == 0 else None

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show values of an epoch."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, epoch)

    def flush(self) -> None:
        """Put the scalars on disk."""
        if self._board is not None:
            self._board.flush()

    def line(self, entry: Mapping[str, Any]) -> None:
        """Tell the driver: figures of an epoch, or `{"warning": text}`."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Close the board."""
        if self._board is not None:
            self._board.close()
