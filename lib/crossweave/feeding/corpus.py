"""What encoders learn from: contents of the catalog, vectors beside them, and what users took, where asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crossweave.errors import ReconciliationError
from crossweave.feeding.arrays import bytes_to_arrays
from crossweave.feeding.datasets import Datasets, TensorFile, files_of
from crossweave.feeding.reader import read_row_groups
from crossweave.feeding.schema import POSITIONS
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_record, write_record

TARGETS = np.dtype("<f4")
NAME = "corpus.json"
SCHEMA = 2


@dataclass(frozen=True)
class CorpusFiles(Datasets):
    """A corpus as it was written; its folder belongs to one pretraining, and goes with it."""

    folder: Location
    fingerprint: str
    contents: int  # that were read; those that cannot be kept, or have no target, have no row
    content_files: tuple[TensorFile, ...]
    users: int = 0  # that were read; those of fewer than two contents have no row
    taken_files: tuple[TensorFile, ...] = ()

    def files(self, dataset: str) -> tuple[TensorFile, ...]:
        """Return the files of `contents` or `taken`, in order."""
        return self.content_files if dataset == "contents" else self.taken_files

    @property
    def remedy(self) -> str:
        """How to make a damaged corpus anew."""
        return _remedy(self.folder)

    def save(self) -> None:
        """Write what the corpus is; with it, and not before, it exists."""
        value = asdict(self)
        del value["folder"]
        write_record(self.folder / NAME, SCHEMA, value)


def load_corpus(folder: Place, fingerprint: str) -> CorpusFiles | None:
    """Find the corpus of a fingerprint; None where it was never finished, or another lies there."""
    folder = Location.of(folder)
    if not (folder / NAME).is_file():
        return None
    value = read_record(folder / NAME, SCHEMA, _remedy(folder))
    value |= {name: files_of(value[name]) for name in ("content_files", "taken_files")}
    return CorpusFiles(folder=folder, **value) if value["fingerprint"] == fingerprint else None


@dataclass(frozen=True)
class Rows:
    """A shard of contents or users: bytes or an array a row, and which of them only judge."""

    values: list[Any]  # bytes of a content, or positions of contents, int32
    held_out_R: np.ndarray  # bool
    targets: np.ndarray | None = None  # float32 [R, E]


def read_contents(corpus: CorpusFiles, shard: int = 0, shards: int = 1) -> Rows:
    """Return a shard's contents by their position: of a whole corpus, the content of position n is the n-th."""
    return _rows(corpus, "contents", shard, shards)


def read_taken(corpus: CorpusFiles, shard: int = 0, shards: int = 1) -> Rows:
    """Return what the users of a shard took."""
    rows = _rows(corpus, "taken", shard, shards)
    if any(len(taken) and taken[-1] >= corpus.rows("contents") for taken in rows.values):
        raise ReconciliationError("users took contents that the corpus does not have", corpus.remedy)
    return rows


def _rows(corpus: CorpusFiles, dataset: str, shard: int, shards: int) -> Rows:
    positions, values, held_out, targets = list[np.ndarray](), list[Any](), list[np.ndarray](), list[np.ndarray]()
    for group in read_row_groups(corpus, dataset, shard, shards):
        positions.append(np.asarray(group["position"]))
        held_out.append(np.asarray(group["held_out"], np.bool_))
        if dataset == "taken":
            values += bytes_to_arrays(group["contents"], POSITIONS)
        else:
            values += [bytes(content) for content in group["content"]]
            targets += bytes_to_arrays(group["target"], TARGETS)
    if not values:
        return Rows([], np.empty(0, np.bool_))
    position_R = np.concatenate(positions)
    if shards == 1 and not np.array_equal(np.sort(position_R), np.arange(len(values))):
        raise ReconciliationError(f"the {dataset} of the corpus are not numbered from 0", corpus.remedy)
    order = np.argsort(position_R, kind="stable")
    aimed = np.stack([targets[row] for row in order]) if targets and len(targets[0]) else None
    return Rows([values[row] for row in order], np.concatenate(held_out)[order], aimed)


def _remedy(folder: Location) -> str:
    return f"remove the folder {folder} and run ./submit.sh pretrain, which makes it anew"
