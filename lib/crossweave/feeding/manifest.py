"""The manifest of a tensor set: what was written, so that a reader can tell when it reads anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from crossweave.errors import TableError
from crossweave.tables.files import file_sha256, read_json, write_json

NAME = "manifest.json"


@dataclass(frozen=True)
class TensorFile:
    """One Parquet file: name, bytes, sha-256 and the rows of each of its row groups."""

    name: str
    size: int
    sha256: str
    row_groups: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """A tensor set: its folder, dataset files, modality dims, user attributes and counts."""

    folder: Path
    fingerprint: str
    modalities: dict[str, int]  # name -> dim, in the order of the presence masks and of the model
    items: int
    users: int
    item_files: tuple[TensorFile, ...]
    sequence_files: tuple[TensorFile, ...]
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of users, in the order of the codes

    def paths(self, dataset: str) -> list[Path]:
        """Return the files of `items` or `sequences`, in order."""
        return [self.folder / dataset / file.name for file in self.files(dataset)]

    def rows(self, dataset: str) -> int:
        """Return the rows of a dataset."""
        return sum(sum(file.row_groups) for file in self.files(dataset))

    def shard_rows(self, shard: int, shards: int) -> int:
        """Return how many sequence rows a rank reads in an epoch; files (one row group each) are dealt out in turn."""
        return sum(sum(file.row_groups) for file in self.sequence_files[shard::shards])

    def verify(self) -> None:
        """Compare every file with its size and checksum; raises TableError naming the first that differs."""
        for dataset in ("items", "sequences"):
            for file, path in zip(self.files(dataset), self.paths(dataset), strict=True):
                if not path.is_file():
                    raise TableError(f"tensor file {path} is missing", "run ./submit.sh tensors again")
                if path.stat().st_size != file.size or file_sha256(path) != file.sha256:
                    raise TableError(
                        f"tensor file {path} is not the one that was written", "run ./submit.sh tensors again"
                    )

    def save(self) -> None:
        """Write the manifest; with it, and not before, the tensor set exists."""
        value = asdict(self)
        del value["folder"]
        # As lists of pairs: a mapping's order is not safe in JSON, and here it is that of the numbers in the files.
        value |= {name: [list(pair) for pair in value[name].items()] for name in ("modalities", "attributes")}
        write_json(self.folder / NAME, value)

    def files(self, dataset: str) -> tuple[TensorFile, ...]:
        """Return the files of `items` or `sequences`, in order."""
        return self.item_files if dataset == "items" else self.sequence_files


def load_manifest(folder: Path) -> Manifest | None:
    """Read a tensor set's manifest; None where the set was never finished."""
    path = folder / NAME
    if not path.is_file():
        return None
    value = read_json(path)
    for key in ("item_files", "sequence_files"):
        value[key] = tuple(TensorFile(f["name"], f["size"], f["sha256"], tuple(f["row_groups"])) for f in value[key])
    value["modalities"] = dict(value["modalities"])
    value["attributes"] = {name: tuple(values) for name, values in value["attributes"]}
    return Manifest(folder=folder, **value)


def describe_files(folder: Path) -> tuple[TensorFile, ...]:
    """Describe the Parquet files of a dataset folder, in the order of their names."""
    return tuple(_describe(path) for path in _part_files(folder))


def _part_files(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _describe(path: Path) -> TensorFile:
    metadata = pq.ParquetFile(path).metadata
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    return TensorFile(path.name, path.stat().st_size, file_sha256(path), groups)
