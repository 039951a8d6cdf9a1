"""Receipts: one small file a stage that says what its last complete run read and wrote.

A stage commits its tables one by one and publishes its receipt last, in one atomic rename. Later stages read
the table versions that the receipts name, never a table's newest version, so a run that was killed between two
commits changes nothing that a later stage sees. A receipt whose fingerprint equals tonight's means: nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from crossweave.errors import ArtifactError, SettingsError
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_record, write_record
from crossweave.tables.receipt_details import DETAILS

SCHEMA = 2
SERVED = "served"
"""The name in the folder that is no stage's: what is served."""

D = TypeVar("D")


class Versions(dict[str, int]):
    """Versions by table, of one stage; asking for a table that it neither read nor wrote raises SettingsError."""

    stage = ""

    def __missing__(self, table: str) -> int:
        raise SettingsError(
            f"stage {self.stage} last ran in a version of crossweave that knew no table {table}",
            f"run ./submit.sh {self.stage}, or pipeline",
        )


@dataclass(frozen=True)
class Receipt(Generic[D]):
    """What one complete run of a stage read and wrote; `details` are those of `tables/receipt_details.py`."""

    stage: str
    fingerprint: str  # of everything that decides the result: table versions, files, settings
    run_id: str
    reads: dict[str, int]
    writes: dict[str, int]  # table -> version
    rows: int  # rows of the stage's ledger, for the record of a night that finds nothing to do
    details: D

    def __post_init__(self) -> None:
        """Let the versions know their stage."""
        for name in ("reads", "writes"):
            versions = Versions(getattr(self, name))
            versions.stage = self.stage
            object.__setattr__(self, name, versions)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Receipt[Any]:
        """Build a receipt from its JSON; raises TypeError where another version wrote it."""
        known = DETAILS.get(value["stage"])
        return Receipt(**{**value, "details": known(value["details"]) if known is not None else None})


class Receipts:
    """The receipts of a workspace."""

    def __init__(self, workspace: Place) -> None:
        self._folder = Location.of(workspace) / "receipts"

    def latest(self, stage: str) -> Receipt[Any] | None:
        """Return a stage's last receipt, or None where it never completed."""
        path = self._folder / f"{stage}.json"
        value = _read(path) if path.is_file() else {}
        if not value and self._folder.is_file():
            raise SettingsError(f"{self._folder} is a file where a folder should be", "move it away")
        if "stage" not in value:  # or the stamp that the demo shop once had in its place
            return None
        if value["stage"] != stage:
            raise ArtifactError(f"{path} is the receipt of stage {value['stage']}", _remedy(path))
        try:
            return Receipt.of(value)
        except TypeError as error:
            raise ArtifactError(f"{path} is of another version of crossweave: {error}", _remedy(path)) from error

    def all(self) -> list[Receipt[Any]]:
        """Return the last receipt of every stage that ever completed."""
        places = [place for place in self._folder.children() if place.name.endswith(".json")]
        found = [self.latest(place.stem) for place in places if place.stem != SERVED]
        return [receipt for receipt in found if receipt is not None]

    def required(self, stage: str) -> Receipt[Any]:
        """Return a stage's last receipt; raises SettingsError where that stage must be run first."""
        receipt = self.latest(stage)
        if receipt is None:
            raise SettingsError(
                f"stage {stage} has never completed in this workspace", f"run ./submit.sh {stage} first, or pipeline"
            )
        return receipt

    def publish(self, receipt: Receipt[Any]) -> None:
        """Make a receipt the stage's latest, atomically."""
        write_record(self._folder / f"{receipt.stage}.json", SCHEMA, asdict(receipt))


def _read(path: Location) -> dict[str, Any]:
    # A receipt from before receipts had a schema says the same; what it was made from is asked by its fingerprint.
    return read_record(path, SCHEMA, _remedy(path), unsealed=True)


def _remedy(path: Location) -> str:
    return f"restore {path} from a backup, or remove it and run ./submit.sh {path.stem}, which then works from nothing"
