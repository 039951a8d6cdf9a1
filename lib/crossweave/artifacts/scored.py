"""Scored vectors: what the item tower says of every item, and what a night's rules leave, for the workers to map."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from crossweave.artifacts.sealed import Kind, Sealed, open_required
from crossweave.storage.records import Place

SCORED = Kind("scored vectors", "scored", "scored.json", 1, "score")
ITEM_IDS = "item_ids.arrow"


def save_item_ids(folder: Path, ids: pa.Array) -> None:
    """Write the id of every item, by item index."""
    table = pa.table({"item_id": ids.cast(pa.string())})
    with pa.OSFile(str(folder / ITEM_IDS), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())


@dataclass(frozen=True)
class ItemArrays:
    """What the item tower says of N items, and which of them may be recommended."""

    target_NE: np.ndarray  # float32; with the bias it scores
    center_E: np.ndarray  # the mean target
    bias_N: np.ndarray  # float32
    history_ND: np.ndarray  # items as part of a history
    candidate_N: np.ndarray  # bool
    query_NE: np.ndarray | None = None  # of target-aware towers

    def save(self, folder: Path) -> None:
        """Write each as NAME.npy."""
        for field in fields(self):
            array = getattr(self, field.name)
            if array is not None:
                np.save(folder / f"{_name(field.name)}.npy", array)


class ScoredVectors:
    """What one scoring left for others: the arrays of `ItemArrays`, ids, and files that scoring put beside them."""

    def __init__(self, sealed: Sealed) -> None:
        self.sealed, self.folder = sealed, sealed.folder

    @classmethod
    def open(cls, folder: Place, fingerprint: str | None = None) -> Self:
        """Open and verify those of a folder; raises ArtifactError where they are gone, damaged or other ones."""
        sealed = open_required(SCORED, folder, fingerprint)
        sealed.verify()
        return cls(sealed)

    def __getattr__(self, name: str) -> np.ndarray:
        """Map one of the `ItemArrays` into memory."""
        if name not in ItemArrays.__dataclass_fields__:
            raise AttributeError(name)
        return self.sealed.array(_name(name))

    @property
    def item_ids(self) -> pa.Array:
        """The ids of all items, strings, by item index."""
        with pa.memory_map(str(self.sealed.path(ITEM_IDS))) as source:
            return pa.ipc.open_file(source).read_all().column("item_id").combine_chunks()


def _name(field: str) -> str:
    return field.rpartition("_")[0]
