"""Single arrays in a store, as .npy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from crossweave.storage.location import Location


def write_array(place: Location, array: np.ndarray) -> None:
    """Write an array, whole."""
    with place.placing() as path, path.open("wb") as stream:
        np.save(stream, array)


def read_array(place: Location) -> np.ndarray:
    """Read an array into memory."""
    if place.is_local:
        return np.asarray(np.load(place.local, allow_pickle=False))
    with tempfile.TemporaryDirectory(prefix="crossweave-") as folder:
        place.download(Path(folder) / "array.npy")
        return np.asarray(np.load(Path(folder) / "array.npy", allow_pickle=False))
