"""Train: the alignment model under Horovod, on the tensors of the last tensors stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossweave.artifacts.model import MODEL, TrainedModel
from crossweave.artifacts.sealed import open_sealed
from crossweave.config import Settings
from crossweave.feeding.items import forget_items
from crossweave.feeding.manifest import SETS, Manifest, required_manifest
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.stages.train.fitting import STAGE, fit
from crossweave.stages.train.searching import search_settings
from crossweave.storage.location import Location
from crossweave.tables.receipt_details import Trained
from crossweave.tables.receipts import Receipt
from crossweave.training.device import choose_device
from crossweave.training.planning import check_model, model_facts, rank_limits
from crossweave.training.precision import Precision


@dataclass(frozen=True)
class TrainBasis(Basis):
    """The tensors to train on."""

    manifest: Manifest
    protocol: str


class Train(Stage[TrainBasis]):
    """Trains the model of these tensors and settings.

    Writes a folder `models/FINGERPRINT` with model.safetensors and model.json. An interrupted training goes on from
    its last checkpoint.
    """

    name = STAGE
    current = "the model of these tensors and settings is there"

    def check(self, settings: Settings) -> None:
        """Look for every part of the model, and what it takes."""
        check_model(settings)

    def check_with_spark(self, context: StageContext) -> None:
        """Look whether Spark and this machine can train so; what the nodes of a cluster have, only they know."""
        master = str(context.spark.sparkContext.master)
        rank_limits(context.settings, master)
        if master.startswith("local["):
            Precision(context.settings.train.precision, choose_device(context.settings.train.device, 0))

    def basis(self, context: StageContext) -> TrainBasis:
        """Take the last tensor set."""
        check_model(context.settings)
        tensors = context.receipts.required("tensors")
        manifest = required_manifest(context.workspace / SETS / tensors.details.folder, tensors.fingerprint)
        facts = model_facts(context.settings, manifest)
        if context.settings.search.trials:
            facts["search"] = context.settings.search.model_dump(mode="json")
        return TrainBasis(tensors.writes, facts, manifest, tensors.details.protocol)

    def made(self, context: StageContext, basis: TrainBasis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Find the model of this basis; a made model is never written to again, whatever came in between."""
        model = open_sealed(MODEL, _folder(context, basis), basis.fingerprint)
        if model is None:
            return None
        model.verify()
        found = super().made(context, basis, last)
        return found if found is not None else _receipt(context, basis)

    def run(
        self, context: StageContext, basis: TrainBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Trained]:
        """Train one model, or, where a search is asked for, several of which the best is kept."""
        make = search_settings if context.settings.search.trials else fit
        folder, rows = _folder(context, basis), basis.manifest.rows("sequences")
        fitted = make(context, basis.manifest, folder, basis.fingerprint, basis.protocol)
        forget_items(basis.manifest)
        record.ledgers = {"sequences": Ledger(rows_in=rows, rows_out=rows)}
        record.metrics = fitted.figures
        record.curves = dict(TrainedModel.open(folder, basis.fingerprint).facts["curves"])
        record.note = f"{fitted.note} · {folder}"
        return _receipt(context, basis)


TRAIN = Train()


def _folder(context: StageContext, basis: TrainBasis) -> Location:
    return MODEL.place(context.workspace, basis.fingerprint)


def _receipt(context: StageContext, basis: TrainBasis) -> Receipt[Trained]:
    details = Trained(_folder(context, basis).name, basis.manifest.fingerprint)
    rows = basis.manifest.rows("sequences")
    return Receipt(STAGE, basis.fingerprint, context.run_id, basis.reads, {}, rows, details)
