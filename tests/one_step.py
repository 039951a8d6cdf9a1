"""A stage made of a function, for tests of what runs stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossweave.config import Settings
from crossweave.runtime.record import StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.tables.receipts import Receipt

Work = Callable[[StageContext, StageRecord], None]


class Step(Stage[Basis]):
    """Does one piece of work, every time."""

    keeps_receipt = False

    def __init__(self, name: str, work: Work, check: Callable[[Settings], None] = lambda settings: None) -> None:
        self.name, self._work, self._check = name, work, check  # type: ignore[misc]

    def check(self, settings: Settings) -> None:
        self._check(settings)

    def basis(self, context: StageContext) -> Basis:
        return Basis({}, {})

    def run(self, context: StageContext, basis: Basis, last: Receipt[Any] | None, record: StageRecord) -> Receipt[Any]:
        self._work(context, record)
        return basis.receipt(context, record, None)
