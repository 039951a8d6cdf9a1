"""A folder of Petastorm datasets, and what was written there, so that a reader can tell when it reads anything else."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crossweave.storage.copies import FileMark, check_sizes, mark_of, verified
from crossweave.storage.location import Location


@dataclass(frozen=True)
class TensorFile:
    """One Parquet file: name, mark, and the rows of each of its row groups."""

    name: str
    mark: FileMark
    row_groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Of all its row groups."""
        return sum(self.row_groups)


class Datasets(abc.ABC):
    """Some datasets of one folder, each a list of files; a rank's shard is every so-many-th of them."""

    folder: Location

    @abc.abstractmethod
    def files(self, dataset: str) -> tuple[TensorFile, ...]:
        """Return the files of a dataset, in order."""

    @property
    @abc.abstractmethod
    def remedy(self) -> str:
        """How to make a damaged folder anew."""

    def places(self, dataset: str) -> list[Location]:
        """Return where the files of a dataset lie, in order."""
        return [self.folder / dataset / file.name for file in self.files(dataset)]

    def rows(self, dataset: str, shard: int = 0, shards: int = 1) -> int:
        """Return the rows of a shard."""
        return sum(file.rows for file in self.files(dataset)[shard::shards])

    def check_sizes(self, dataset: str) -> None:
        """Look whether every file is there, without reading one; raises ArtifactError naming the first that is not."""
        files = zip(self.places(dataset), self.files(dataset), strict=True)
        check_sizes({place: file.mark for place, file in files}, "tensor file", self.remedy)

    def verified(self, dataset: str, shard: int = 0, shards: int = 1) -> list[Path]:
        """Return a shard's files, on this machine; ArtifactError naming the first that is not as it was written."""
        files, places = self.files(dataset)[shard::shards], self.places(dataset)[shard::shards]
        return [verified(at, file.mark, "tensor file", self.remedy) for file, at in zip(files, places, strict=True)]


def part_files(folder: Location) -> list[Location]:
    """Return the Parquet files of a dataset folder, by name."""
    return [place for place in folder.children() if place.name.startswith("part-") and place.name.endswith(".parquet")]


def describe_file(place: Location) -> TensorFile:
    """Describe a Parquet file of a dataset."""
    with place.open() as stream:
        metadata = pq.ParquetFile(stream).metadata
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    return TensorFile(place.name, mark_of(place), groups)


def files_of(value: list[dict[str, Any]]) -> tuple[TensorFile, ...]:
    """Build files of their JSON."""
    return tuple(TensorFile(f["name"], FileMark(**f["mark"]), tuple(f["row_groups"])) for f in value)
