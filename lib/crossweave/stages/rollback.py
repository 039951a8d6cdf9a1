"""Rollback: serves a run again that was served before; nothing is computed, and nothing of the workspace is removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossweave.errors import SettingsError, TableError
from crossweave.runtime.made import Made
from crossweave.runtime.record import StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.tables.promoting import roll_back, target_of, with_unjudged
from crossweave.tables.receipts import Receipt
from crossweave.tables.served import Generation, Served, load_served, served_chain


@dataclass(frozen=True)
class RollbackBasis(Basis):
    """What is served, and what is to be."""

    served: Served
    target: Generation


@dataclass(frozen=True)
class Rollback(Stage[RollbackBasis]):
    """Serves the run before the last promoted one, or the one of a run `to`: lists, model and vectors.

    Asked again it finds nothing to do. Raises SettingsError for a run that was never served, and TableError where a
    table or an artifact of it is gone, damaged, or not the one that was served.
    """

    to: str | None = None
    name = "rollback"
    current = "it is served"
    keeps_receipt = False

    def basis(self, context: StageContext) -> RollbackBasis:
        """Look up the target."""
        served = load_served(context.workspace)
        if served is None:
            raise SettingsError("no run was ever promoted in this workspace", "run ./submit.sh pipeline")
        gated = context.settings.evaluate.gate is not None
        served = with_unjudged(served, served_chain(context.workspace, gated=gated), context.date.isoformat())
        target = target_of(served, self.to)
        return RollbackBasis({}, {"to": target.runs}, served, target)

    def made(self, context: StageContext, basis: RollbackBasis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Find the target served."""
        if basis.target.chain.score != basis.served.chain.score:
            return None
        return Receipt(self.name, basis.fingerprint, context.run_id, {}, {}, 0, None)

    def nothing_to_do(
        self, context: StageContext, basis: RollbackBasis, receipt: Receipt[Any], record: StageRecord
    ) -> None:
        """Say what is served, and how to serve another."""
        record.nothing_to_do(0, {}, _said(basis.target, "is served already; ./submit.sh served lists the others"))

    def run(
        self, context: StageContext, basis: RollbackBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[None]:
        """Verify all that readers may open, then serve it."""
        served, target = basis.served, basis.target
        check_whole(context, target)
        roll_back(context.workspace, served, target, context.run_id)
        record.reads = {"recommendations": target.chain.score.writes["recommendations"]}
        record.facts = {"served": target.runs[-1], "date": target.date, "instead_of": served.run_id}
        record.note = _said(target, "is served again\n  to undo it: ./submit.sh rollback --to " + served.run_id)
        return basis.receipt(context, record, None)


def check_whole(context: StageContext, target: Generation) -> None:
    """Raise TableError naming what is gone, damaged, or another than was served.

    Tables and tensors by the names and sizes of their files, model and vectors by the bytes.
    """
    try:
        _check_tables(context, target)
        made = Made(context.workspace, target.chain)
        for dataset in ("items", "sequences"):
            made.manifest.check_sizes(dataset)
        for artifact in (made.model, made.vectors):  # opening one compares its files, or this host's copies of them
            artifact.sealed.check_sizes()
    except TableError as error:
        raise type(error)(
            f"run {target.runs[-1]} cannot be served again: {error.message}",
            "restore it from a backup, or roll back to another run: ./submit.sh served lists them",
        ) from error


def _check_tables(context: StageContext, target: Generation) -> None:
    store, versions = context.tables, target.chain.tables
    for name, version in versions.items():
        store.required(name, version)
    now = store.identities(versions)
    for name, identity in target.promotion.tables.items():
        if now.get(name) != identity:
            raise TableError(f"table {name} was made anew since, its version {versions[name]} is another one")


def _said(target: Generation, what: str) -> str:
    return f"the run of {target.date} ({target.runs[-1]}) {what}"
