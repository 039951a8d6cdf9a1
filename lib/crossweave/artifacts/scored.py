"""Scored vectors: what the item tower says of every item, and what a night's rules leave, for the workers to map."""

from __future__ import annotations

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


class ScoredVectors:
    """What one scoring left for others: `target`, `center`, `bias`, `history`, `candidate` and, of some heads, `query`.

    `target` float32 [N, E] and `bias` [N] score, `center` [E] is the mean target, `history` [N, D] are items as part
    of a history, `candidate` bool [N] may be recommended.
    """

    def __init__(self, sealed: Sealed) -> None:
        self.sealed, self.folder = sealed, sealed.folder

    @classmethod
    def open(cls, folder: Place, fingerprint: str | None = None) -> Self:
        """Open and verify those of a folder; raises ArtifactError where they are gone, damaged or other ones."""
        sealed = open_required(SCORED, folder, fingerprint)
        sealed.verify()
        return cls(sealed)

    def array(self, name: str) -> np.ndarray:
        """Map one of the arrays into memory."""
        return self.sealed.array(name)

    @property
    def item_ids(self) -> pa.Array:
        """The ids of all items, strings, by item index."""
        with pa.memory_map(str(self.sealed.path(ITEM_IDS))) as source:
            return pa.ipc.open_file(source).read_all().column("item_id").combine_chunks()
