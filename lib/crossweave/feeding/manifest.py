"""The manifest of a tensor set: what was written, so that a reader can tell when it reads anything else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from crossweave.errors import ArtifactError
from crossweave.feeding.datasets import Datasets, TensorFile, files_of
from crossweave.storage.location import Location
from crossweave.storage.records import Place, digest, read_record, write_record

SETS = "tensors"
"""The folder of a workspace that the sets lie in."""
NAME = "manifest.json"
SCHEMA = 2


@dataclass(frozen=True)
class Manifest(Datasets):
    """A tensor set: its folder, dataset files, modality dims, user attributes and counts."""

    folder: Location
    fingerprint: str
    modalities: dict[str, int]  # name -> dim, in the order of the presence masks and of the model
    items: int
    users: int
    item_files: tuple[TensorFile, ...]
    sequence_files: tuple[TensorFile, ...]
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of users, in the order of the codes
    tables: dict[str, str] = field(default_factory=dict)  # written with it: name -> identity
    rows_in: int = 0  # rows of the tables that it was made from

    def __post_init__(self) -> None:
        """Take a path of this machine too."""
        object.__setattr__(self, "folder", Location.of(self.folder))

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the tables that were written with it."""
        return {name: int(identity.rpartition("@")[2]) for name, identity in self.tables.items()}

    @property
    def content(self) -> str:
        """Of what the item tensors hold, whatever they were made from."""
        return digest([self.items, [file.mark.sha256 for file in self.item_files], list(self.modalities.items())])

    @property
    def remedy(self) -> str:
        """How to make a damaged set anew."""
        return remedy(self.folder)

    def verify(self) -> None:
        """Compare every file; raises ArtifactError naming the first that differs."""
        for dataset in ("items", "sequences"):
            self.verified(dataset)

    def save(self) -> None:
        """Write the manifest; with it, and not before, the tensor set exists."""
        value = asdict(self)
        del value["folder"]
        # As lists of pairs: a mapping's order is not safe in JSON, and here it is that of the numbers in the files.
        value |= {name: [list(pair) for pair in value[name].items()] for name in ("modalities", "attributes")}
        write_record(self.folder / NAME, SCHEMA, value)

    def files(self, dataset: str) -> tuple[TensorFile, ...]:
        """Return the files of `items` or `sequences`, in order."""
        return self.item_files if dataset == "items" else self.sequence_files


def load_manifest(folder: Place) -> Manifest | None:
    """Read a tensor set's manifest; None where the set was never finished, ArtifactError where it is damaged."""
    folder = Location.of(folder)
    path = folder / NAME
    if not path.is_file():
        return None
    value = read_record(path, SCHEMA, remedy(folder))
    for key in ("item_files", "sequence_files"):
        value[key] = files_of(value[key])
    value["modalities"] = dict(value["modalities"])
    value["attributes"] = {name: tuple(values) for name, values in value["attributes"]}
    return Manifest(folder=folder, **value)


def required_manifest(folder: Place, fingerprint: str | None = None) -> Manifest:
    """Read the manifest of a set that a receipt names; raises ArtifactError where it is gone, damaged or another's."""
    manifest = load_manifest(folder)
    if manifest is None:
        raise ArtifactError(f"the tensor set {folder} is gone", "run ./submit.sh tensors, which makes it anew")
    if fingerprint is not None and manifest.fingerprint != fingerprint:
        raise ArtifactError(f"{manifest.folder / NAME} is the manifest of another tensor set", remedy(folder))
    return manifest


def remedy(folder: Place) -> str:
    """Say how to make a damaged set anew."""
    return f"remove the folder {folder} and run ./submit.sh tensors, which makes it anew"
