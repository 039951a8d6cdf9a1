"""Item tensors as arrays: read once a host, memory-mapped, shared by all of its processes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossweave.errors import ReconciliationError
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.reader import read_row_groups
from crossweave.feeding.schema import present_field, vector_field
from crossweave.tables.vectors import DTYPE

LAYOUT = 1


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


def host_folder(manifest: Manifest) -> Path:
    """Name this host's folder for the memory-mapped arrays of a tensor set."""
    return Path(tempfile.gettempdir()) / f"crossweave-{os.getuid()}" / f"{manifest.fingerprint[:32]}-{LAYOUT}"


def open_items(manifest: Manifest) -> ItemTensors:
    """Return the item tensors; the first process of a host that asks writes the arrays, atomically.

    Raises ReconciliationError where the dataset does not hold each item exactly once.
    """
    folder = host_folder(manifest)
    if not (folder / "done.json").is_file():
        _build(manifest, folder)
    load = lambda name: np.load(folder / f"{name}.npy", mmap_mode="r")  # noqa: E731
    return ItemTensors(
        {name: load(f"vector-{name}") for name in manifest.modalities},
        np.asarray(load("present")),
        np.asarray(load("popularity")),
        np.asarray(load("candidate")),
    )


def forget_items(manifest: Manifest) -> None:
    """Remove this host's arrays of a tensor set."""
    shutil.rmtree(host_folder(manifest), ignore_errors=True)


def _build(manifest: Manifest, folder: Path) -> None:
    building = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    building.mkdir(parents=True, mode=0o700)
    try:
        _fill(manifest, building)
        building.rename(folder)
    except OSError:
        if not (folder / "done.json").is_file():  # else another process of this host was faster, with the same arrays
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _fill(manifest: Manifest, building: Path) -> None:
    count, names = manifest.items, list(manifest.modalities)
    new = np.lib.format.open_memmap
    arrays = {n: new(building / f"vector-{n}.npy", "w+", DTYPE, (count, d)) for n, d in manifest.modalities.items()}
    present_NM = new(building / "present.npy", "w+", np.bool_, (count, len(names)))
    popularity_N = new(building / "popularity.npy", "w+", np.float32, (count,))
    candidate_N = new(building / "candidate.npy", "w+", np.bool_, (count,))
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
    (building / "done.json").write_text(json.dumps({"items": count}), encoding="utf-8")
