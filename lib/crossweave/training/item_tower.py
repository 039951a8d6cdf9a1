"""Feeds the item tower from the memory-mapped item tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from crossweave.alignment.model import AlignmentModel, ItemBatch, ItemVectors
from crossweave.feeding.items import ItemTensors
from crossweave.training.device import move

ITEMS_AT_ONCE = 8192
IN_MEMORY_BYTES = 256 * 2**20  # float32 features a rank keeps: about 30,000 items of the size of the demo's


def in_memory(items: ItemTensors, budget: int = IN_MEMORY_BYTES) -> ItemTensors:
    """Return the items with their features as float32 arrays, where those fit the budget; as they are, where not.

    Converting float16 rows in every step costs several times the copy.
    """
    if 4 * sum(array.size for array in items.vectors.values()) > budget:
        return items
    return replace(items, vectors={name: array.astype(np.float32) for name, array in items.vectors.items()})


def gather_items(items: ItemTensors, index_S: np.ndarray) -> ItemBatch:
    """Read the features of some items; of all of them in their order, float32 ones are not copied."""
    in_order = len(index_S) == items.count and bool((index_S == np.arange(items.count)).all())
    return ItemBatch(
        torch.from_numpy(index_S.astype(np.int64)),
        # A small catalog is whole in most steps. torch widens float16 several times as fast as numpy.
        {
            name: torch.from_numpy(array if in_order and array.flags.writeable else array[index_S]).float()
            for name, array in items.vectors.items()
        },
        torch.from_numpy(items.present_NM[index_S]),
        torch.from_numpy(items.popularity_N[index_S] > 0),
    )


@torch.inference_mode()
def all_items(model: AlignmentModel, items: ItemTensors, with_ids: bool = True) -> ItemVectors:
    """Run the item tower over the whole index, block by block, where the model is."""
    blocks = []
    device = next(model.parameters()).device
    for start in range(0, items.count, ITEMS_AT_ONCE):
        batch = move(gather_items(items, np.arange(start, min(start + ITEMS_AT_ONCE, items.count))), device)
        tokens = model.tokens(batch.vectors, batch.present_SM)
        known = batch.known_S if with_ids else torch.zeros_like(batch.known_S)
        blocks.append(model.assemble(tokens, batch.present_SM, batch.index_S, known))
    return ItemVectors(*[torch.cat([getattr(b, name) for b in blocks]) for name in ItemVectors.__dataclass_fields__])
