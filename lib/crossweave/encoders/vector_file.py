"""Vectors that another system left in files: one array with an id file (as MMRec has it), or one file an item (Ducho).

Letters in names: N rows of the array, D the vectors' length.
"""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.encoders.weights import hash_files, require_file
from crossweave.errors import SettingsError


class VectorFileSettings(EncoderSettings):
    """Settings of vectors in files."""

    path: Path = Field(description="A .npy or .npz array [N, D], or a folder with one ID.npy an item; hashed.")
    array: str | None = Field(None, description="Name of the array in an .npz file; null: its only one.")
    ids: Path | None = Field(
        None,
        description="Ids of the rows: .npy, .txt (one a line), .json (a list, or id: row), .csv or .tsv; null: an "
        "item's id is its row's number, counted from 0.",
    )
    id_column: str | int = Field(0, description="Column of a .csv or .tsv with the ids: name or number.")
    row_column: str | int | None = Field(1, description="Column with the row's number; null: rows in the file's order.")


class VectorFileEncoder(Encoder):
    """An id becomes its row of the array, float32 [D].

    Failures: no_vector (the files have none for this id), wrong_dim, non_finite. Raises SettingsError where files are
    missing or do not fit each other. Arrays are memory-mapped and never unpickled.
    """

    name = "file"
    code_version = 2
    Settings: ClassVar[type[EncoderSettings]] = VectorFileSettings
    neutral_settings = frozenset({"path", "ids"})
    settings: VectorFileSettings

    @property
    def batch_budget(self) -> int:
        """Rows of one call."""
        return 4096

    def _dim(self) -> int:
        if not self.settings.path.is_dir():
            return int(self._array.shape[1])
        first = next(iter(sorted(self.settings.path.glob("*.npy"))), None)
        if first is None:
            raise SettingsError(f"encoder.path: the folder {str(self.settings.path)!r} holds no .npy file")
        return int(_load_array(first).size)

    def _weights_hash(self) -> str:
        path, ids = self.settings.path, self.settings.ids
        if path.is_dir():
            return hash_files([(file.name, file) for file in sorted(path.glob("*.npy"))])
        files = [("array", require_file(path, "encoder.path"))]
        return hash_files([*files, ("ids", require_file(ids, "encoder.ids"))] if ids else files)

    @functools.cached_property
    def _array(self) -> npt.NDArray[Any]:
        array = _load_array(require_file(self.settings.path, "encoder.path"), self.settings.array)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise SettingsError(
                f"encoder.path: expected numbers [N, D] in {str(self.settings.path)!r}, found {array.dtype} "
                f"{list(array.shape)}"
            )
        return array

    @functools.cached_property
    def _rows(self) -> dict[str, int] | None:
        """Row of each id; None where ids are row numbers."""
        ids = self.settings.ids
        if ids is None:
            return None
        pairs = _read_ids(require_file(ids, "encoder.ids"), self.settings.id_column, self.settings.row_column)
        rows = dict(pairs)
        if len(rows) != len(pairs):
            raise SettingsError(f"encoder.ids: {str(ids)!r} names an id twice")
        beyond = [name for name, row in rows.items() if not 0 <= row < len(self._array)]
        if beyond:
            raise SettingsError(
                f"encoder.ids: {str(ids)!r} gives {beyond[0]!r} a row beyond the array's {len(self._array)}"
            )
        return rows

    def _load(self, device: str) -> None:
        if not self.settings.path.is_dir():
            _ = self._rows, self._array

    def _prepare_one(self, value: Any) -> FloatArray:
        if not isinstance(value, str):
            raise BadValueError("wrong_type", f"A {type(value).__name__} came where an id was expected.")
        vector_D = np.asarray(self._find(value), dtype=np.float32).reshape(-1)
        if len(vector_D) != self.dim:
            raise BadValueError("wrong_dim", f"The vector has {len(vector_D)} numbers; {self.dim} were expected.")
        if not np.isfinite(vector_D).all():
            raise BadValueError("non_finite", "The vector holds NaN or infinity; every number must be finite.")
        return vector_D

    def _find(self, value: str) -> npt.NDArray[Any]:
        if self.settings.path.is_dir():
            file = self.settings.path / f"{value}.npy"
            if file.parent != self.settings.path or not file.is_file() or file.is_symlink():
                raise BadValueError("no_vector", "The folder of vectors has no file for this id.")
            return _load_array(file)
        row = int(value) if self._rows is None and value.isdecimal() else (self._rows or {}).get(value)
        if row is None or row >= len(self._array):
            raise BadValueError("no_vector", "The file of vectors has no row for this id.")
        found: npt.NDArray[Any] = self._array[row]
        return found

    def _encode(self, examples: list[FloatArray]) -> FloatArray:
        return np.stack(examples)


def _load_array(path: Path, name: str | None = None) -> npt.NDArray[Any]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return loaded  # a memory map
        with loaded:  # an archive of arrays
            names = list(loaded.files)
            if name is None and len(names) != 1:
                raise SettingsError(f"encoder.array: {str(path)!r} holds {', '.join(names)}; name the one to take")
            if name is not None and name not in names:
                raise SettingsError(f"encoder.array: {str(path)!r} holds {', '.join(names)}, not {name!r}")
            return np.asarray(loaded[name or names[0]])
    except (ValueError, OSError, EOFError) as error:
        raise SettingsError(f"encoder.path: {str(path)!r} is not a whole array of numbers ({error})") from error


def _read_ids(path: Path, id_column: str | int, row_column: str | int | None) -> list[tuple[str, int]]:
    try:
        if path.suffix == ".npy":
            return [(str(name), row) for row, name in enumerate(np.load(path, allow_pickle=False).tolist())]
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            if isinstance(content, dict):
                return [(str(name), int(row)) for name, row in content.items()]
            return [(str(name), row) for row, name in enumerate(content)]
        with path.open(encoding="utf-8-sig", newline="") as stream:
            if path.suffix == ".txt":
                return [(line.rstrip("\r\n"), row) for row, line in enumerate(stream)]
            head = stream.readline()
            separator = "\t" if "\t" in head else ","
            names = next(csv.reader([head], delimiter=separator))
            at = _column(names, id_column)
            row_at = None if row_column is None else _column(names, row_column)
            lines = [line for line in csv.reader(stream, delimiter=separator) if line]
        return [(line[at], number if row_at is None else int(line[row_at])) for number, line in enumerate(lines)]
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"encoder.ids: {str(path)!r} cannot be read as ids ({error})") from error


def _column(names: list[str], wanted: str | int) -> int:
    if isinstance(wanted, int):
        return wanted
    if wanted not in names:
        raise KeyError(f"no column {wanted!r} among {', '.join(names)}")
    return names.index(wanted)
