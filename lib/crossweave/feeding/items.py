"""Item tensors as arrays: read once a host, memory-mapped, shared by all of its processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossweave.errors import ReconciliationError
from crossweave.feeding.host_cache import HostCache
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.reader import read_row_groups
from crossweave.feeding.schema import present_field, vector_field
from crossweave.tables.vectors import BYTES, DTYPE

LAYOUT = 2


@dataclass(frozen=True)
class ItemTensors:
    """Features of all N items, by item index."""

    vectors: dict[str, np.ndarray]  # modality -> float16 [N, its dim], memory-mapped
    present_NM: np.ndarray  # bool
    popularity_N: np.ndarray  # float32, training interactions
    candidate_N: np.ndarray  # bool: may be recommended

    @property
    def judged(self) -> np.ndarray:
        """Whether it is known what users make of an item, bool [N].

        They took it in training, or nobody did though it was not withheld: an item that may not be recommended is none
        of those whose turn is still to come.
        """
        return (self.popularity_N > 0) | ~self.candidate_N

    @property
    def count(self) -> int:
        """The number of items."""
        return len(self.popularity_N)


def host_cache(manifest: Manifest) -> HostCache:
    """Return this host's place for the memory-mapped arrays of a tensor set."""
    # By content: two shops with the same settings and table versions have other vectors.
    return HostCache(f"{manifest.content[:32]}-{LAYOUT}")


def open_items(manifest: Manifest) -> ItemTensors:
    """Return the item tensors; the first process of a host that asks writes the arrays, atomically.

    Raises ReconciliationError where the dataset does not hold each item exactly once, ArtifactError where a file of it
    is not as it was written, TryAgainError where the host has no room for the arrays.
    """
    arrays = host_cache(manifest).open(lambda building: _fill(manifest, building), _bytes(manifest))
    return ItemTensors(
        {name: arrays[f"vector-{name}"] for name in manifest.modalities},
        np.asarray(arrays["present"]),
        np.asarray(arrays["popularity"]),
        np.asarray(arrays["candidate"]),
    )


def forget_items(manifest: Manifest) -> None:
    """Remove this host's arrays of a tensor set."""
    host_cache(manifest).forget()


def _bytes(manifest: Manifest) -> int:
    return manifest.items * (BYTES * sum(manifest.modalities.values()) + len(manifest.modalities) + 5)


def _fill(manifest: Manifest, building: Path) -> None:
    count, names = manifest.items, list(manifest.modalities)
    arrays = {n: _new(building / f"vector-{n}.npy", DTYPE, (count, d)) for n, d in manifest.modalities.items()}
    present_NM = _new(building / "present.npy", np.bool_, (count, len(names)))
    popularity_N = _new(building / "popularity.npy", np.float32, (count,))
    candidate_N = _new(building / "candidate.npy", np.bool_, (count,))
    seen_N = np.zeros(count, bool)
    for group in read_row_groups(manifest, "items"):
        index = np.asarray(group["item_index"])
        if seen_N[index].any() or len(np.unique(index)) != len(index):
            raise ReconciliationError("the item tensors hold an item more than once", "run ./submit.sh tensors again")
        seen_N[index] = True
        popularity_N[index] = group["popularity"]
        candidate_N[index] = group["candidate"]
        for position, name in enumerate(names):
            flat = np.frombuffer(b"".join(group[vector_field(name)]), DTYPE)
            arrays[name][index] = flat.reshape(len(index), manifest.modalities[name])
            present_NM[index, position] = group[present_field(name)]
    if not seen_N.all():
        raise ReconciliationError(f"the item tensors lack {int((~seen_N).sum())} of {count} items")
    for array in (*arrays.values(), present_NM, popularity_N, candidate_N):
        array.flush()


def _new(path: Path, dtype: object, shape: tuple[int, ...]) -> np.memmap:
    """Make an array file whose blocks are all there: a page written into a hole of a full disk kills the process."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with path.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array
