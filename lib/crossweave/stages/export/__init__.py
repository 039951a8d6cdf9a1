"""Export: hands what a workspace made to other systems, in forms that need nothing of Crossweave to be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from crossweave.config import Settings
from crossweave.errors import ReconciliationError, SettingsError
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.stages.export import features, models, rows, vectors
from crossweave.stages.export.source import Source
from crossweave.storage.litter import remove_drafts
from crossweave.storage.records import read_json, write_json

MARKER = "_crossweave.json"  # readers of Parquet folders ignore names that begin with an underscore
Export = Callable[[Source, Path], tuple[int, int]]
"""(what there is, an empty folder) → units that should be written, and that were."""
EXPORTS: dict[tuple[str, str], Export] = {
    ("recommendations", "parquet"): rows.recommendations,
    ("items", "parquet"): rows.items,
    ("items", "faiss"): vectors.index,
    ("users", "parquet"): vectors.users,
    ("features", "mmrec"): features.mmrec,
    ("model", "safetensors"): models.weights,
    ("model", "onnx"): models.graphs,
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
    _check_target(Path(wanted.path).resolve())


def export(context: StageContext, record: StageRecord) -> None:
    """Write what `export.what` names below `export.path`; an earlier export there is replaced as a whole.

    Needs nothing but the workspace. Ids get the types that they had in the input tables.
    """
    check_export(context.settings)
    wanted, target = context.settings.export, Path(str(context.settings.export.path)).resolve()
    source = Source(context)
    record.reads = source.reads
    stamp = {"what": wanted.what, "format": wanted.format, "fingerprint": source.fingerprint}
    held = read_json(target / MARKER) if (target / MARKER).is_file() else {}
    if {name: held.get(name) for name in stamp} == stamp:
        record.nothing_to_do(held["rows"], record.reads, f"{target} holds these {wanted.what}")
        return
    remove_drafts(target, context.workspace)
    draft = target.with_name(f".{target.name}.{context.run_id}")
    draft.mkdir(parents=True)
    try:
        due, written = EXPORTS[wanted.what, wanted.format](source, draft)
        if written != due:
            raise ReconciliationError(f"{written} {wanted.what} were exported, there are {due}")
        write_json(draft / MARKER, stamp | {"rows": written})
        _put_in_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    record.ledgers = {wanted.what: Ledger(rows_in=due, rows_out=written)}
    record.note = str(target)


def _check_target(target: Path) -> None:
    if target.exists() and not (target / MARKER).is_file() and (target.is_file() or any(target.iterdir())):
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
