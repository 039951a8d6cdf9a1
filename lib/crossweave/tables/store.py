"""Tables as Delta snapshots: Spark writes Parquet into a fresh folder, delta-rs commits the files.

delta-rs accepts a missing file, a file of another schema and a stale commit without complaint, so each commit
here goes: validate every footer → check on one handle that the table still stands where the writer saw it →
commit without retries → return the new snapshot. Files of an attempt that never committed are invisible.
"""

from __future__ import annotations

import datetime
import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyspark.sql import DataFrame, SparkSession

from crossweave.errors import ReconciliationError, TableError, TryAgainError
from crossweave.storage.lease import fence
from crossweave.storage.location import Location, entries
from crossweave.storage.records import Place
from crossweave.storage.stores import Entry
from crossweave.tables.paths import check_workspace, read_parquet, spark_path
from crossweave.tables.schema import schema_difference, spark_schema, table_schema
from crossweave.tables.snapshot import DataFile, Snapshot

APP_ID = "crossweave"
log = logging.getLogger(__name__)


class TableStore:
    """The Delta tables below one folder."""

    def __init__(self, root: Place) -> None:
        self.root = Location.of(root)
        check_workspace(self.root)
        self._options = self.root.store.options_of_delta

    def folder(self, name: str) -> Location:
        """Return where a table lies."""
        return self.root / name

    def snapshot(self, name: str, version: int | None = None) -> Snapshot | None:
        """Open a table at a version (None: the newest); None where the table does not exist.

        Raises TableError naming the table and file where the log or a data file is damaged or missing.
        """
        table = self._open(name, version)
        return None if table is None else self._snapshot(name, table)

    def required(self, name: str, version: int | None = None) -> Snapshot:
        """Open a table that must exist."""
        snapshot = self.snapshot(name, version)
        if snapshot is None:
            raise self._gone(name, version)
        return snapshot

    def identities(self, versions: Mapping[str, int]) -> dict[str, str]:
        """Name what is in these versions of tables: the id that Delta gave a table when it was made, and the version.

        Numbers alone name nothing: every workspace has a version 0. Raises TableError for a table that is gone.
        """
        found = {}
        for name in sorted(versions):
            table = self._open(name, versions[name])
            if table is None:
                raise self._gone(name, versions[name])
            found[name] = f"{table.metadata().id}@{versions[name]}"
        return found

    def read(self, spark: SparkSession, name: str, version: int | None = None) -> DataFrame:
        """Read one version of a table with its declared schema.

        Without a version it is the newest, and a table never written reads as empty; one that a receipt names by its
        version must be there: TableError.
        """
        snapshot = self.snapshot(name) if version is None else self.required(name, version)
        schema = spark_schema(name)
        if snapshot is None or not snapshot.files:
            return spark.createDataFrame([], schema)
        return read_parquet(spark, snapshot.places, schema)

    def fresh_folder(self, name: str) -> Location:
        """Name a folder for the data files of one attempt, never used before."""
        return self.folder(name) / "data" / uuid.uuid4().hex

    def write(
        self,
        frame: DataFrame,
        name: str,
        mode: Literal["append", "replace"],
        *,
        base: int | None,
        properties: Mapping[str, str] | None = None,
        once: str | None = None,
    ) -> Snapshot:
        """Write a frame as Parquet and commit it; `base` is the version the writer started from (None: no table).

        With a key in `once`, a commit that an earlier attempt made under the same key is not made again.
        """
        if once is not None and base is not None and self.has_committed(name, once):
            return self.required(name)
        files = self._written(frame, name)
        return self.commit(name, files, mode, base=base, properties=properties, once=once)

    def replace(self, frame: DataFrame, name: str) -> Snapshot:
        """Write a frame in place of what the newest version of a table holds, and commit it."""
        head = self.snapshot(name)
        return self.write(frame, name, "replace", base=head.version if head is not None else None)

    def _written(self, frame: DataFrame, name: str) -> list[Location]:
        folder = self.fresh_folder(name)
        frame.select(*table_schema(name).names).write.mode("errorifexists").parquet(spark_path(folder))
        return [place for place in folder.children() if place.name.startswith("part-")]

    def _with_every_column(self, name: str, table: DeltaTable) -> bool:
        """Tell the log of a table from before a column was added of it: else other readers never see that column."""
        known = [field.name for field in table.schema().fields]
        if known == table_schema(name).names[: len(known)]:
            missing = Schema.from_arrow(table_schema(name)).fields[len(known) :]
            if missing:
                table.alter.add_columns(missing, commit_properties=_properties(table.version() + 1, None))
            return bool(missing)
        raise TableError(
            f"table {name} at {self.folder(name)} has the columns {', '.join(known)}, not those of this version",
            "it was written by another version of Crossweave: use that one, or remove the table's folder",
        )

    def has_committed(self, name: str, once: str) -> bool:
        """Say whether a commit was ever made under this key."""
        table = self._open(name)
        return table is not None and table.transaction_version(once) is not None

    def commit(
        self,
        name: str,
        files: Sequence[Place],
        mode: Literal["append", "replace"],
        *,
        base: int | None,
        properties: Mapping[str, str] | None = None,
        expected_rows: int | None = None,
        once: str | None = None,
    ) -> Snapshot:
        """Commit Parquet files that already lie below the table's folder as its next version.

        `properties` are kept by the commit that creates the table.
        Raises TableError for a missing, empty, truncated or otherwise typed file, ReconciliationError where the
        footers count other rows than expected, and TryAgainError where another writer committed since `base`, or
        another run has taken over the workspace.
        """
        places = [Location.of(file) for file in files]
        checked = [self._validate(name, place, entry) for place, entry in zip(places, entries(places), strict=True)]
        rows = sum(file.rows for file in checked)
        if expected_rows is not None and rows != expected_rows:
            raise ReconciliationError(f"table {name}: {rows} rows were written, {expected_rows} were expected")
        actions = [self._add_action(file) for file in checked if file.rows]
        table = self._open(name)
        current = None if table is None else table.version()
        done = None if table is None else table.transaction_version(APP_ID)
        next_version = 0 if base is None else base + 1
        if current != base or (done is not None and done >= next_version):
            raise self._conflict(name, base, current)
        schema = Schema.from_arrow(table_schema(name))
        fence(self.root, thorough=True)
        try:
            if table is not None and mode == "append" and self._with_every_column(name, table):
                next_version += 1
            commit = _properties(next_version, once)
            if table is None:
                self.folder(name).make_folder()
                create_table_with_add_actions(
                    str(self.folder(name)),
                    schema,
                    actions,
                    mode="error",
                    name=name,
                    description=json.dumps(dict(properties or {}), sort_keys=True),
                    storage_options=self._options,
                    commit_properties=commit,
                )
            else:
                delta_mode = "append" if mode == "append" else "overwrite"
                table.create_write_transaction(actions, delta_mode, schema, commit_properties=commit)
        except CommitFailedError as error:
            raise self._conflict(name, base, None) from error
        except DeltaError as error:
            if "already exists" in str(error):
                raise self._conflict(name, base, None) from error
            raise
        log.info("committed %s version %d: %d rows in %d files", name, next_version, rows, len(actions))
        return self.required(name, next_version)

    def commits(self, name: str) -> dict[int, datetime.datetime]:
        """Return the versions of a table that its log still knows, each with the time of its commit."""
        table = self._open(name)
        if table is None:
            raise TableError(f"table {name} does not exist below {self.root}")
        return {
            entry["version"]: datetime.datetime.fromtimestamp(entry["timestamp"] / 1000, datetime.UTC)
            for entry in table.history()
        }

    def data_files(self, name: str, version: int) -> set[str]:
        """Return the data files that a version names, relative to the table's folder, there or not."""
        table = self._open(name, version)
        return (
            set() if table is None else {a["path"] for a in pa.table(table.get_add_actions(flatten=True)).to_pylist()}
        )

    def _open(self, name: str, version: int | None = None) -> DeltaTable | None:
        if not (self.folder(name) / "_delta_log").is_folder():
            return None
        try:
            return DeltaTable(str(self.folder(name)), version=version, storage_options=self._options)
        except TableNotFoundError:
            return None
        except Exception as error:  # delta-rs raises several unrelated types for a damaged log
            raise TableError(
                f"the log of table {name} at {self.folder(name)} is not readable: {str(error).splitlines()[0]}",
                "restore the folder _delta_log from a backup, or remove the table's folder and run again",
            ) from error

    def _snapshot(self, name: str, table: DeltaTable) -> Snapshot:
        folder = self.folder(name)
        # The transaction is the last line of a commit: without it, the log entry was torn or is somebody else's.
        if table.transaction_version(APP_ID) != table.version():
            raise TableError(
                f"version {table.version()} of table {name} at {folder} is torn, or was written by another program",
                f"restore {folder / '_delta_log'} from a backup, or remove the table's folder and run again",
            )
        adds = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        files = tuple(
            sorted(
                (DataFile(a["path"], a["size_bytes"], a["num_records"]) for a in adds),
                key=lambda file: file.path,
            )
        )
        for file, entry in zip(files, entries([folder / file.path for file in files]), strict=True):
            if entry is None or entry.size != file.size:
                state = "is missing" if entry is None else f"has {entry.size} bytes instead of {file.size}"
                raise TableError(
                    f"data file {folder / file.path} of table {name} {state}",
                    "restore it from a backup, or remove the table's folder and run again",
                )
        note = table.metadata().description or "{}"
        return Snapshot(name, table.version(), folder, files, json.loads(note))

    def _validate(self, name: str, place: Location, entry: Entry | None) -> DataFile:
        if entry is None:
            raise TableError(f"{place}, to be committed to table {name}, does not exist")
        try:
            with place.open() as stream:
                metadata = pq.ParquetFile(stream).metadata
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{place}, to be committed to table {name}, is not readable Parquet: {error}") from error
        problem = schema_difference(table_schema(name), metadata.schema.to_arrow_schema())
        if problem:
            raise TableError(f"{place} does not fit table {name}: {problem}")
        return DataFile(place.below(self.folder(name)), entry.size, metadata.num_rows)

    @staticmethod
    def _add_action(file: DataFile) -> AddAction:
        stats = json.dumps({"numRecords": file.rows})
        return AddAction(file.path, file.size, {}, int(time.time() * 1000), True, stats)

    def _gone(self, name: str, version: int | None) -> TableError:
        of = "" if version is None else f" (version {version} of it is needed)"
        return TableError(
            f"table {name} does not exist below {self.root}{of}",
            "restore the workspace's folder tables from a backup, or start with a new workspace",
        )

    @staticmethod
    def _conflict(name: str, base: int | None, current: int | None) -> TryAgainError:
        return TryAgainError(
            f"table {name} was committed to by another run (this run started from version {base}, found {current})",
            "run the same command again once the other run is done",
        )


def _properties(version: int, once: str | None) -> CommitProperties:
    """Return what every commit of ours says: its version, and the key of what is done once."""
    keys = [Transaction(APP_ID, version), *([Transaction(once, 1)] if once else [])]
    return CommitProperties(max_commit_retries=0, app_transactions=keys)
