"""Tensors: writes item and sequence tensors as Petastorm datasets, from which training and scoring start."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crossweave.errors import TableError
from crossweave.feeding.manifest import NAME, SETS, Manifest, required_manifest
from crossweave.runtime.record import StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.stages.tensors.writing import TensorSet
from crossweave.storage.location import Location, entries
from crossweave.tables.receipt_details import Embedded, Tensors
from crossweave.tables.receipts import Receipt
from crossweave.tables.served import load_served

STAGE = "tensors"
CODE_VERSION = 3
KEPT_SETS = 2


@dataclass(frozen=True)
class TensorsBasis(Basis):
    """The tables to read, and where the vectors are."""

    features: Embedded


class BuildTensors(Stage[TensorsBasis]):
    """Writes the tensors of tonight's catalog, features, histories and user attributes.

    Writes the tables item_index and user_index, and a folder `tensors/FINGERPRINT` whose manifest appears last.
    """

    name = STAGE
    current = "the tensors of these tables are there"

    def basis(self, context: StageContext) -> TensorsBasis:
        """Take the tables that ingest and embed wrote last."""
        settings, receipts = context.settings, context.receipts
        ingest, embed = receipts.required("ingest"), receipts.required("embed")
        reads = {name: ingest.writes[name] for name in ("catalog", "history", "users")}
        reads |= {feature.table: embed.writes[feature.table] for feature in embed.details.values()}
        facts = {
            "code": CODE_VERSION,
            "reads": context.tables.identities(reads),
            "modalities": {name: asdict(feature) for name, feature in embed.details.items()},
            "attributes": sorted(settings.inputs.users.attributes) if settings.inputs.users.path else [],
            "settings": settings.tensors.model_dump(),
            "ranks": settings.train.ranks,
            "protocol": settings.split.protocol,
            "seed": settings.seed,
        }
        return TensorsBasis(reads, facts, embed.details)

    def made(self, context: StageContext, basis: TensorsBasis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Find the set of this basis where it is there with the tables that it was written with.

        A set is never written to again: one that an earlier night made is found, whatever came in between.
        """
        folder = _folder(context, basis)
        if not (folder / NAME).is_file():
            return None
        manifest = required_manifest(folder, basis.fingerprint)
        try:
            for name, version in manifest.versions.items():
                context.tables.required(name, version)
            if context.tables.identities(manifest.versions) != manifest.tables:
                return None
        except TableError:  # the set outlived them: nothing names it any more
            return None
        found = super().made(context, basis, last)
        return found if found is not None else _receipt(context, basis, manifest)

    def run(
        self, context: StageContext, basis: TensorsBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Tensors]:
        """Write the set."""
        folder = _folder(context, basis)
        work = TensorSet(context, basis.reads, basis.features, folder, basis.fingerprint)
        manifest = work.run()
        record.ledgers, record.writes = work.ledgers, work.writes
        record.metrics = {
            "items": manifest.items,
            "users": manifest.users,
            "sequences": manifest.rows("sequences"),
            "bytes": sum(file.mark.size for file in (*manifest.item_files, *manifest.sequence_files)),
            **work.attribute_metrics,
            **work.leakage_metrics,
        }
        record.note = str(folder)
        return _receipt(context, basis, manifest)

    def settle(
        self, context: StageContext, basis: TensorsBasis, receipt: Receipt[Tensors], record: StageRecord
    ) -> None:
        """Let go of older sets."""
        if not record.noop:
            _forget_old_sets(context.workspace, _folder(context, basis), context.settings.gc.keep_served)


TENSORS = BuildTensors()


def _folder(context: StageContext, basis: TensorsBasis) -> Location:
    return context.workspace / SETS / basis.fingerprint[:16]


def _receipt(context: StageContext, basis: TensorsBasis, made: Manifest) -> Receipt[Tensors]:
    details = Tensors(made.folder.name, context.settings.split.protocol)
    return Receipt(STAGE, basis.fingerprint, context.run_id, basis.reads, made.versions, made.rows_in, details)


def _forget_old_sets(workspace: Location, current: Location, keep_served: int) -> None:
    """Keep the current tensor set, the one before it, the served one and those to roll back to.

    Others can be built again from the tables.
    """
    served = load_served(workspace)
    sets = current.parent.children()
    made = entries([folder / NAME for folder in sets])
    finished = [(folder, entry.modified) for folder, entry in zip(sets, made, strict=True) if entry is not None]
    finished.sort(key=lambda found: (found[0] == current, found[1]), reverse=True)
    kept = {folder.name for folder, _ in finished[:KEPT_SETS]}
    kept |= {known.chain.tensor_set for known in served.kept(keep_served)} if served is not None else set()
    for folder in sets:  # those without a manifest are what killed runs left
        if folder.name not in kept:
            folder.remove()
