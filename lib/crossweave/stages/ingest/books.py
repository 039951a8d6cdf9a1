"""The books of one night's ingest: what was counted, what is refused and why, and how much of it is too much."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.errors import ReconciliationError
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.stage import StageContext
from crossweave.stages.ingest.judging import Groups, check_budget, refusal_warnings, rows_of
from crossweave.tables.quarantine import last_run, quarantine_rows
from crossweave.tables.refusals import refused
from crossweave.tables.snapshot import Snapshot

STAGE = "ingest"


class Books:
    """Ledgers, notes and warnings of a night, kept in its record, and the rows that it refuses."""

    def __init__(self, context: StageContext, record: StageRecord) -> None:
        self.context, self.store = context, context.tables
        self.ledgers, self.notes, self.warnings = record.ledgers, record.notes, record.warnings
        self.refused_by = context.run_id  # the run that tonight's quarantine rows carry
        self._refused: list[DataFrame] = []

    def ledger(self, what: str, rows_in: int, rows_out: int, reasons: dict[str, int]) -> None:
        """Count one kind of thing; raises ReconciliationError where some of it is missing."""
        ledger = Ledger(rows_in=rows_in, rows_out=rows_out, quarantined={r: n for r, n in reasons.items() if n})
        ledger.check(f"{STAGE}.{what}")
        self.ledgers[what] = ledger

    def judge_rows(self, judged: DataFrame, name: str, entity: str, groups: Groups, hint: str = "") -> Groups:
        """Count a judged table, quarantine what it refuses, and judge how much that is."""
        reasons = {reason: group.rows for reason, group in refused(groups).items()}
        self.ledger(name, sum(group.rows for group in groups.values()), rows_of(groups, None), reasons)
        if reasons:
            known = {column: F.col(column) for column in ("item_id", "user_id") if column in judged.columns}
            self.refuse(judged.where("reason is not null"), entity, reason=F.col("reason"), **known)
        self.judge(name, groups, hint)
        return groups

    def judge(self, name: str, groups: Groups, hint: str = "") -> None:
        """Warn of what a table refuses; raises BudgetExceededError where it is too much."""
        self.warnings += refusal_warnings(name, groups, hint)
        check_budget(name, groups, self.context.settings, hint)

    def refuse(self, rows: DataFrame, entity: str, /, **values: F.Column) -> None:
        """Keep rows for the quarantine; `values` are its columns beside where the row lies."""
        detail = F.format_string("row %d of %s", "row", "file")
        if "said" in rows.columns:
            detail = F.concat_ws(": ", detail, "said")
        date, run = self.context.date, self.context.run_id
        bad = quarantine_rows(rows, date=date, run_id=run, stage=STAGE, entity=entity, detail=detail, **values)
        self._refused.append(bad)

    def _nothing_refused(self) -> DataFrame:
        return self.store.read(self.context.spark, "quarantine").limit(0)

    def quarantine(self, head: Snapshot | None, once: str) -> int:
        """Append the refused rows to the quarantine, under a key that is committed only once; returns its version."""
        # Every reader finds a table of this name, be it empty.
        expected = sum(sum(ledger.quarantined.values()) for ledger in self.ledgers.values())
        if expected or head is None:
            rows = reduce(DataFrame.unionByName, self._refused, self._nothing_refused())
            known = head.rows if head is not None else 0
            again = head is not None and self.store.has_committed("quarantine", once)
            head = self.store.write(rows, "quarantine", "append", base=head.version if head else None, once=once)
            if again:  # an attempt that died after this commit has refused these rows
                self.refused_by = last_run(self.store.read(self.context.spark, "quarantine"), STAGE) or self.refused_by
            if not again and head.rows - known != expected:
                raise ReconciliationError(f"quarantine got {head.rows - known} rows, {expected} were counted")
        return head.version
