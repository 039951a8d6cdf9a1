"""Receipts: one small file a stage that says what its last complete run read and wrote.

A stage commits its tables one by one and publishes its receipt last, in one atomic rename. Later stages read
the table versions that the receipts name, never a table's newest version, so a run that was killed between two
commits changes nothing that a later stage sees. A receipt whose fingerprint equals tonight's means: nothing to do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from crossweave.errors import ArtifactError, SettingsError
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_record, write_record

SCHEMA = 2


NO_STAGE = ("demo", "served")
"""Names in the folder that are no receipts: the demo shop's stamp, and what is served."""


class Versions(dict[str, int]):
    """Versions by table, of one stage; asking for a table that it did not write raises SettingsError."""

    stage = ""

    def __missing__(self, table: str) -> int:
        raise SettingsError(
            f"stage {self.stage} last ran in a version of crossweave that wrote no table {table}",
            f"run ./submit.sh {self.stage}, or pipeline",
        )


@dataclass(frozen=True)
class Receipt:
    """What one complete run of a stage read and wrote."""

    stage: str
    fingerprint: str  # of everything that decides the result: table versions, files, settings
    run_id: str
    reads: dict[str, int]
    writes: dict[str, int]  # table -> version
    rows: int  # rows of the stage's ledger, for the record of a night that finds nothing to do
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let the versions know their stage."""
        versions = Versions(self.writes)
        versions.stage = self.stage
        object.__setattr__(self, "writes", versions)


class Receipts:
    """The receipts of a workspace."""

    def __init__(self, workspace: Place) -> None:
        self._folder = Location.of(workspace) / "receipts"

    def latest(self, stage: str) -> Receipt | None:
        """Return a stage's last receipt, or None where it never completed."""
        path = self._folder / f"{stage}.json"
        if not path.is_file():
            return None
        receipt = Receipt(**_read(path))
        if receipt.stage != stage:
            raise ArtifactError(f"{path} is the receipt of stage {receipt.stage}", _remedy(path))
        return receipt

    def all(self) -> list[Receipt]:
        """Return the last receipt of every stage that ever completed."""
        places = [place for place in self._folder.children() if place.name.endswith(".json")]
        found = [self.latest(place.stem) for place in places if place.stem not in NO_STAGE]
        return [receipt for receipt in found if receipt is not None]

    def required(self, stage: str) -> Receipt:
        """Return a stage's last receipt; raises SettingsError where that stage must be run first."""
        receipt = self.latest(stage)
        if receipt is None:
            raise SettingsError(
                f"stage {stage} has never completed in this workspace", f"run ./submit.sh {stage} first, or pipeline"
            )
        return receipt

    def publish(self, receipt: Receipt) -> None:
        """Make a receipt the stage's latest, atomically."""
        write_record(self._folder / f"{receipt.stage}.json", SCHEMA, asdict(receipt))


def _read(path: Location) -> dict[str, Any]:
    # A receipt from before receipts had a schema says the same; what it was made from is asked by its fingerprint.
    return read_record(path, SCHEMA, _remedy(path), unsealed=True)


def _remedy(path: Location) -> str:
    return f"restore {path} from a backup, or remove it and run ./submit.sh {path.stem}, which then works from nothing"
