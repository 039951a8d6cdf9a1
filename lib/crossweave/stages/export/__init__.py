"""Export: hands what a workspace made to other systems, in forms that need nothing of Crossweave to be read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossweave.config import Settings
from crossweave.errors import ReconciliationError, SettingsError
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.stages.export import features, models, rows, vectors
from crossweave.stages.export.source import Source
from crossweave.storage.litter import remove_drafts
from crossweave.storage.location import Location
from crossweave.storage.records import read_json, write_json
from crossweave.tables.receipts import Receipt

MARKER = "_crossweave.json"  # readers of Parquet folders ignore names that begin with an underscore
Export = Callable[[Source, Location], tuple[int, int]]
"""(what there is, an empty folder) → units that should be written, and that were."""


def _built_here(write: Callable[[Source, Path], tuple[int, int]]) -> Export:
    """Make an export of what a library writes on this machine."""

    def export_files(source: Source, folder: Location) -> tuple[int, int]:
        with tempfile.TemporaryDirectory(prefix="crossweave-") as scratch:
            draft = folder.local if folder.is_local else Path(scratch)
            draft.mkdir(parents=True, exist_ok=True)
            counts = write(source, draft)
            if not folder.is_local:
                folder.upload_folder(draft)
        return counts

    return export_files


EXPORTS: dict[tuple[str, str], Export] = {
    ("recommendations", "parquet"): rows.recommendations,
    ("items", "parquet"): _built_here(rows.items),
    ("items", "faiss"): _built_here(vectors.index),
    ("users", "parquet"): vectors.users,
    ("features", "mmrec"): _built_here(features.mmrec),
    ("model", "safetensors"): _built_here(models.weights),
    ("model", "onnx"): _built_here(models.graphs),
}


def check_export(settings: Settings) -> None:
    """Raise SettingsError where there is no place to write to, it is somebody else's, or no such form."""
    wanted = settings.export
    if wanted.path is None:
        raise SettingsError("export.path is not set", "add --set export.path=FOLDER")
    if (wanted.what, wanted.format) not in EXPORTS:
        forms = ", ".join(form for what, form in EXPORTS if what == wanted.what)
        raise SettingsError(
            f"{wanted.what} cannot be exported as {wanted.format}", f"export.format may be {forms} for {wanted.what}"
        )
    _check_target(Location.of(wanted.path))


@dataclass(frozen=True)
class ExportBasis(Basis):
    """What is exported, and where to."""

    source: Source
    target: Location


class ExportStage(Stage[ExportBasis]):
    """Writes what `export.what` names below `export.path`; an earlier export there is replaced as a whole.

    Needs nothing but the workspace. Ids get the types that they had in the input tables. Whether it is done is asked
    where it lies: somebody may have removed it.
    """

    name = "export"
    keeps_receipt = False

    def check(self, settings: Settings) -> None:
        """Look for the form and the place."""
        check_export(settings)

    def basis(self, context: StageContext) -> ExportBasis:
        """Take the chain that is served."""
        check_export(context.settings)
        wanted, source = context.settings.export, Source(context)
        facts = {"what": wanted.what, "format": wanted.format, "fingerprint": source.fingerprint}
        return ExportBasis(source.reads, facts, source, Location.of(str(wanted.path)))

    def made(self, context: StageContext, basis: ExportBasis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Ask the marker."""
        marker = basis.target / MARKER
        held = read_json(marker) if marker.is_file() else {}
        if {name: held.get(name) for name in basis.facts} != basis.facts:
            return None
        return Receipt(self.name, basis.fingerprint, context.run_id, basis.reads, {}, held["rows"], None)

    def nothing_to_do(
        self, context: StageContext, basis: ExportBasis, receipt: Receipt[None], record: StageRecord
    ) -> None:
        """Say where it lies."""
        record.nothing_to_do(receipt.rows, basis.reads, f"{basis.target} holds these {basis.facts['what']}")

    def run(
        self, context: StageContext, basis: ExportBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[None]:
        """Write a draft and swap it in; where no folders can be swapped, the marker says when it is whole again."""
        wanted, target = context.settings.export, basis.target
        if target.is_local:
            remove_drafts(target.local, context.workspace)
        draft = target.parent / f".{target.name}.{context.run_id}" if target.is_local else target
        if not target.is_local:
            (target / MARKER).remove()
            target.remove()
        try:
            due, written = EXPORTS[wanted.what, wanted.format](basis.source, draft)
            if written != due:
                raise ReconciliationError(f"{written} {wanted.what} were exported, there are {due}")
            write_json(draft / MARKER, {**basis.facts, "rows": written})
            if target.is_local:
                _put_in_place(draft.local, target.local)
        except BaseException:
            draft.remove()
            raise
        record.ledgers = {wanted.what: Ledger(rows_in=due, rows_out=written)}
        record.note = str(target)
        return basis.receipt(context, record, None)


EXPORT = ExportStage()


def _check_target(target: Location) -> None:
    if not (target / MARKER).is_file() and (target.is_file() or target.children()):
        raise SettingsError(
            f"export.path {target} holds something that is no export of Crossweave", "name a new or an empty folder"
        )


def _put_in_place(draft: Path, target: Path) -> None:
    """Swap the new folder in; between the two renames a reader finds no folder, never a half one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f"{draft.name}.old")
    if target.exists():
        target.rename(old)
    draft.rename(target)
    shutil.rmtree(old, ignore_errors=True)
