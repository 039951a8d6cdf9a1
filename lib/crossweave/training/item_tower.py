"""Feeds the item tower from the memory-mapped item tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.model import AlignmentModel, ItemBatch, ItemVectors
from crossweave.feeding.items import ItemTensors

ITEMS_AT_ONCE = 8192


def gather_items(items: ItemTensors, index_S: np.ndarray) -> ItemBatch:
    """Read the features of some items."""
    return ItemBatch(
        torch.from_numpy(index_S.astype(np.int64)),
        {name: torch.from_numpy(array[index_S].astype(np.float32)) for name, array in items.vectors.items()},
        torch.from_numpy(items.present_NM[index_S]),
        torch.from_numpy(items.popularity_N[index_S] > 0),
    )


def pad(rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return index rows as int64 [B, L], padded with 0, and their boolean mask; L is at least 1."""
    length = max([len(row) for row in rows] + [1])
    index_BL = np.zeros((len(rows), length), np.int64)
    present_BL = np.zeros((len(rows), length), bool)
    for position, row in enumerate(rows):
        index_BL[position, : len(row)] = row
        present_BL[position, : len(row)] = True
    return torch.from_numpy(index_BL), torch.from_numpy(present_BL)


@torch.inference_mode()
def all_items(model: AlignmentModel, items: ItemTensors, with_ids: bool = True) -> ItemVectors:
    """Run the item tower over the whole index, block by block."""
    blocks = []
    for start in range(0, items.count, ITEMS_AT_ONCE):
        batch = gather_items(items, np.arange(start, min(start + ITEMS_AT_ONCE, items.count)))
        tokens = model.tokens(batch.vectors, batch.present_SM)
        known = batch.known_S if with_ids else torch.zeros_like(batch.known_S)
        blocks.append(model.assemble(tokens, batch.present_SM, batch.index_S, known))
    return ItemVectors(*[torch.cat([getattr(b, name) for b in blocks]) for name in ItemVectors.__dataclass_fields__])
