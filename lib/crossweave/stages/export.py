"""Export: hands the recommendations to other systems as plain Parquet with the caller's own id types."""

from __future__ import annotations

import shutil
from pathlib import Path

from pyspark.sql import functions as F

from crossweave.config import Settings
from crossweave.errors import ReconciliationError, SettingsError
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.tables.files import digest, read_json, write_json
from crossweave.tables.receipts import Receipts
from crossweave.tables.store import TableStore

MARKER = "_crossweave.json"  # readers of Parquet folders ignore names that begin with an underscore
SPARK_TYPES = {"integer": "bigint", "string": "string"}


def check_export(settings: Settings) -> None:
    """Raise SettingsError where there is no place to write to, or the place is somebody else's."""
    if settings.export.path is None:
        raise SettingsError("export.path is not set", "add --set export.path=FOLDER")
    _check_target(Path(settings.export.path).resolve())


def export(context: StageContext, record: StageRecord) -> None:
    """Write user_id, item_id, rank and score below `export.path`; an earlier export there is replaced as a whole.

    Needs nothing but the workspace: ids get the types that they had in the input tables.
    """
    check_export(context.settings)
    target = Path(str(context.settings.export.path)).resolve()
    receipts = Receipts(context.workspace)
    scored, ingest = receipts.required("score"), receipts.required("ingest")
    store = TableStore(context.workspace / "tables")
    version = scored.writes["recommendations"]
    snapshot = store.required("recommendations", version)
    record.reads = {"recommendations": version}
    types = ingest.details["id_types"]
    stamp = {"fingerprint": digest([scored.fingerprint, version, types]), "rows": snapshot.rows}
    if (target / MARKER).is_file() and read_json(target / MARKER) == stamp:
        record.nothing_to_do(snapshot.rows, record.reads, f"{target} holds these recommendations")
        return
    rows = store.read(context.spark, "recommendations", version).select(
        F.col("user_id").cast(SPARK_TYPES[types["user"]]).alias("user_id"),
        F.col("item_id").cast(SPARK_TYPES[types["item"]]).alias("item_id"),
        "rank",
        "score",
    )
    draft = target.with_name(f".{target.name}.{context.run_id}")
    try:
        rows.write.parquet(str(draft))
        written = context.spark.read.parquet(str(draft)).count()
        if written != snapshot.rows:
            raise ReconciliationError(f"{written} rows were exported, the table holds {snapshot.rows}")
        write_json(draft / MARKER, stamp)
        _put_in_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    record.ledgers = {"recommendations": Ledger(rows_in=snapshot.rows, rows_out=written)}
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
