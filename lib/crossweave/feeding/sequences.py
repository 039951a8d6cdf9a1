"""Sequence tensors as batches for one rank, in a seeded order of their own in every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crossweave.feeding.arrays import bytes_to_arrays
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.reader import RowGroup, read_row_groups
from crossweave.feeding.schema import SEQUENCE_FIELDS

HELD_OUT = np.dtype("<i4")
CODES = np.dtype("<i4")


@dataclass(frozen=True)
class SequenceRows:
    """Some rows of the sequence tensors."""

    items: list[np.ndarray]  # int32, oldest first
    weights: list[np.ndarray]  # float32, of each interaction
    held_out: list[np.ndarray]  # int32, validation items; empty in most rows of a long history
    user_R: np.ndarray  # int32, user index
    attributes_RA: np.ndarray  # int32, codes of the user's attributes

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> SequenceRows:
        """Return the named rows, in that order."""
        items, weights, held_out = ([column[r] for r in rows] for column in (self.items, self.weights, self.held_out))
        return SequenceRows(items, weights, held_out, self.user_R[rows], self.attributes_RA[rows])

    def __add__(self, other: SequenceRows) -> SequenceRows:
        return SequenceRows(
            self.items + other.items,
            self.weights + other.weights,
            self.held_out + other.held_out,
            np.concatenate([self.user_R, other.user_R]),
            np.concatenate([self.attributes_RA, other.attributes_RA]),
        )


def read_epoch(
    manifest: Manifest, shard: int, shards: int, seed: int, batch: int, steps: int
) -> Iterator[SequenceRows]:
    """Yield exactly `steps` batches of a shard's rows; a shard that runs out early starts over.

    The order of row groups and of the rows within a few of them follows the seed.
    """
    if manifest.rows("sequences", shard, shards) == 0:
        shard, shards = 0, 1  # fewer row groups than ranks: this rank repeats others' rows rather than none
    rng = np.random.default_rng(seed)
    pool = SequenceRows([], [], [], np.empty(0, CODES), np.empty((0, len(manifest.attributes)), CODES))
    given = 0
    while given < steps:
        for group in _rows(manifest, shard, shards, int(rng.integers(2**31))):
            pool += group
            order = rng.permutation(len(pool))
            # One batch's worth stays behind, to be mixed with the next row group.
            while len(order) >= 2 * batch and given < steps:
                yield pool.take(order[:batch])
                order, given = order[batch:], given + 1
            pool = pool.take(order)
        while len(pool) and given < steps:
            last = np.arange(min(batch, len(pool)))
            yield pool.take(last)
            pool, given = pool.take(np.arange(len(last), len(pool))), given + 1


def read_all(manifest: Manifest, shard: int, shards: int) -> Iterator[SequenceRows]:
    """Yield a shard's rows once, a row group at a time, in the order of the files."""
    return _rows(manifest, shard, shards, None)


def _rows(manifest: Manifest, shard: int, shards: int, seed: int | None) -> Iterator[SequenceRows]:
    for group in read_row_groups(manifest, "sequences", shard, shards, seed):
        yield SequenceRows(
            bytes_to_arrays(group["items"], SEQUENCE_FIELDS["items"]),
            bytes_to_arrays(group["weights"], SEQUENCE_FIELDS["weights"]),
            bytes_to_arrays(group["held_out"], HELD_OUT),
            np.asarray(group["user_index"], CODES),
            attribute_codes(manifest, group),
        )


def attribute_codes(manifest: Manifest, group: RowGroup) -> np.ndarray:
    """Return the codes of a row group's users, int32 [R, A]; a set written before there were codes has none."""
    shape = len(group["user_index"]), len(manifest.attributes)
    return np.frombuffer(b"".join(group["attributes"]) if shape[1] else b"", CODES).reshape(shape)
