"""What encoders learn from: the catalog's texts as token ids, and, where asked for, what users took of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crossweave.errors import ReconciliationError
from crossweave.feeding.arrays import bytes_to_arrays
from crossweave.feeding.datasets import Datasets, TensorFile, files_of
from crossweave.feeding.reader import read_row_groups
from crossweave.feeding.schema import POSITIONS, TOKENS
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_record, write_record

NAME = "corpus.json"
SCHEMA = 1


@dataclass(frozen=True)
class CorpusFiles(Datasets):
    """A corpus as it was written; its folder belongs to one pretraining, and goes with it."""

    folder: Location
    fingerprint: str
    contents: int  # that were read; those without a token have no text
    text_files: tuple[TensorFile, ...]
    users: int = 0  # that were read; those of fewer than two texts have no row
    taken_files: tuple[TensorFile, ...] = ()

    def files(self, dataset: str) -> tuple[TensorFile, ...]:
        """Return the files of `texts` or `taken`, in order."""
        return self.text_files if dataset == "texts" else self.taken_files

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
    value |= {name: files_of(value[name]) for name in ("text_files", "taken_files")}
    return CorpusFiles(folder=folder, **value) if value["fingerprint"] == fingerprint else None


@dataclass(frozen=True)
class Rows:
    """A shard of texts or users: an array a row, and which of them only judge."""

    values: list[np.ndarray]  # int32: token ids, or positions of texts
    held_out_R: np.ndarray  # bool


def read_texts(corpus: CorpusFiles, shard: int = 0, shards: int = 1) -> Rows:
    """Return a shard's texts by their position: of a whole corpus, the text of position n is the n-th."""
    return _rows(corpus, "texts", "tokens", TOKENS, shard, shards)


def read_taken(corpus: CorpusFiles, shard: int = 0, shards: int = 1) -> Rows:
    """Return what the users of a shard took."""
    rows = _rows(corpus, "taken", "texts", POSITIONS, shard, shards)
    if any(len(taken) and taken[-1] >= corpus.rows("texts") for taken in rows.values):
        raise ReconciliationError("users took texts that the corpus does not have", corpus.remedy)
    return rows


def _rows(corpus: CorpusFiles, dataset: str, column: str, dtype: np.dtype[Any], shard: int, shards: int) -> Rows:
    positions, values, held_out = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for group in read_row_groups(corpus, dataset, shard, shards):
        positions.append(np.asarray(group["position"]))
        values += bytes_to_arrays(group[column], dtype)
        held_out.append(np.asarray(group["held_out"], np.bool_))
    if not values:
        return Rows([], np.empty(0, np.bool_))
    position_R = np.concatenate(positions)
    if shards == 1 and not np.array_equal(np.sort(position_R), np.arange(len(values))):
        raise ReconciliationError(f"the {dataset} of the corpus are not numbered from 0", corpus.remedy)
    order = np.argsort(position_R, kind="stable")
    return Rows([values[row] for row in order], np.concatenate(held_out)[order])


def _remedy(folder: Location) -> str:
    return f"remove the folder {folder} and run ./submit.sh pretrain, which makes it anew"
