"""The ledger of a stage: what came in must equal what went out, was skipped and was quarantined."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from crossweave.errors import ReconciliationError


@dataclass
class Ledger:
    """Row counts of one kind of thing that passed through a stage.

    `skipped` rows were not worked on because their result is there already, or is known to be impossible.
    """

    rows_in: int = 0
    rows_out: int = 0
    skipped: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Raise ReconciliationError where rows were lost or made up."""
        after = self.rows_out + self.skipped + sum(self.quarantined.values())
        if self.rows_in != after:
            raise ReconciliationError(
                f"{name}: {self.rows_in} rows came in, but {self.rows_out} went out, {self.skipped} were skipped and "
                f"{sum(self.quarantined.values())} quarantined ({after} together)",
                "nothing was published; please report this with the run's folder",
            )

    def __add__(self, other: Ledger) -> Ledger:
        reasons = dict(self.quarantined)
        for reason, count in other.quarantined.items():
            reasons[reason] = reasons.get(reason, 0) + count
        return Ledger(
            self.rows_in + other.rows_in, self.rows_out + other.rows_out, self.skipped + other.skipped, reasons
        )


@dataclass(frozen=True)
class PlanLine:
    """What a stage would do if it were run now."""

    stage: str
    runs: bool
    what: str


@dataclass
class StageRecord:
    """What one stage of a run did; it becomes an entry of `run_result.json`."""

    name: str
    seconds: float = 0.0
    ledgers: dict[str, Ledger] = field(default_factory=dict)  # what was counted -> its ledger
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # name -> (epoch, value)
    facts: dict[str, Any] = field(default_factory=dict)  # what is no figure: how the interactions were parted, say
    noop: bool = False
    note: str = ""
    notes: list[str] = field(default_factory=list)  # what was left out, and why
    warnings: list[str] = field(default_factory=list)  # what somebody should look at; the run goes on
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds that the stage took, or has taken so far."""
        return self.seconds or time.monotonic() - self.started

    @property
    def total(self) -> Ledger:
        """The ledgers added up."""
        return sum(self.ledgers.values(), Ledger())

    def check(self) -> None:
        """Reconcile every ledger."""
        for what, ledger in self.ledgers.items():
            ledger.check(f"{self.name}.{what}")

    def nothing_to_do(self, rows: int, reads: dict[str, int], note: str) -> None:
        """Record a night on which the stage's inputs are those of its last complete run."""
        self.ledgers = {"rows": Ledger(rows_in=rows, skipped=rows)}
        self.reads = reads
        self.noop = True
        self.note = note

    def as_json(self) -> dict[str, Any]:
        """Return the entry of `run_result.json`."""
        total = self.total
        return {
            "name": self.name,
            "seconds": round(self.seconds, 3),
            "rows_in": total.rows_in,
            "rows_out": total.rows_out,
            "skipped": total.skipped,
            "quarantined": dict(sorted(total.quarantined.items())),
            "reads": self.reads,
            "writes": self.writes,
            "notes": self.notes,
            "warnings": self.warnings,
        } | ({"facts": self.facts} if self.facts else {})

    def flat_metrics(self) -> dict[str, float]:
        """Return the stage's figures for `metrics` of `run_result.json`: its own, and each ledger's counts."""
        figures: dict[str, float] = {f"{self.name}.{key}": value for key, value in self.metrics.items()}
        for what, ledger in self.ledgers.items():
            prefix = f"{self.name}.{what}"
            figures[f"{prefix}.rows_in"] = ledger.rows_in
            figures[f"{prefix}.rows_out"] = ledger.rows_out
            figures[f"{prefix}.skipped"] = ledger.skipped
            figures[f"{prefix}.quarantined"] = sum(ledger.quarantined.values())
        return figures
