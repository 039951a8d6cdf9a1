"""Attributes of an item as numbers: measures standardised or binned, categories one-hot or hashed, dates as years.

A value is the JSON object of an item's columns; a column that is null is absent.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.errors import SettingsError

_SECONDS_A_YEAR = 365.2425 * 86400
_FEWEST = 1e-9  # deviation below which a column is constant


class _Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NumberColumn(_Column):
    """A measure; dates and timestamps are measures in years since 1970."""

    kind: Literal["number", "date"] = Field(alias="as")
    scale: Literal["standard", "log", "bins", "radial"] = "standard"
    bins: Annotated[int, Field(ge=2, le=1024)] = 8


class CategoryColumn(_Column):
    """A category: numbers and booleans are categories by their text."""

    kind: Literal["category"] = Field(alias="as")
    how: Literal["onehot", "hashing"] = "onehot"
    size: Annotated[int, Field(ge=1, le=65536)] = 32


class TabularSettings(EncoderSettings):
    """Settings of the attribute encoder."""

    columns: dict[str, Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")]] = Field(
        min_length=1,
        description="column: {as: number | date, scale: standard | log | bins | radial, bins} or {as: category, "
        "how: onehot | hashing, size}.",
    )
    max_chars: int = Field(1_000_000, ge=1, description="Characters of all columns together; more are refused.")


class TabularEncoder(Encoder):
    """A JSON object of attributes becomes the blocks of its columns, in the order of the settings.

    number, date: (x − mean) / deviation, of log(1 + x) with scale log (negative numbers mirrored), or one-hot over
    quantile bins, or radial: Gaussian bumps at `bins` even steps from the least to the largest number, as wide as a
    step, so that near numbers have near vectors (Broomhead & Lowe 1988); then 1 where the column is missing.
    category: one-hot over the `size` most frequent values, one for all others and one for missing; or a signed hash
    into `size` numbers, then 1 where it is missing. Means, quantiles
    and values are learned from the catalog. Failures: undecodable, wrong_type, non_finite, too_long. Raises
    SettingsError in `fit` where a column is missing in the whole sample.
    """

    name = "tabular"
    Settings: ClassVar[type[EncoderSettings]] = TabularSettings
    neutral_settings = frozenset({"max_chars"})
    learns = True
    settings: TabularSettings

    def _dim(self) -> int:
        return sum(self._width(name) for name in self.settings.columns)

    def _width(self, name: str) -> int:
        column = self.settings.columns[name]
        if isinstance(column, CategoryColumn):
            return column.size + (2 if column.how == "onehot" else 1)
        return (column.bins if column.scale in ("bins", "radial") else 1) + 1

    def _fit(self, values: Iterable[Any]) -> Mapping[str, Any]:
        seen: dict[str, list[Any]] = {name: [] for name in self.settings.columns}
        for value in values:
            try:
                row = self._prepare_one(value)
            except BadValueError:
                continue
            for name, cell in row.items():
                seen[name].append(cell)
        absent = [name for name, cells in seen.items() if not cells]
        if absent:
            raise SettingsError(
                f"encoder.columns: no value of {', '.join(absent)} was found in the catalog",
                hint="Name columns that the modality reads (modalities.NAME.columns), with at least one value.",
            )
        return {name: self._learn(name, cells) for name, cells in seen.items()}

    def _learn(self, name: str, cells: list[Any]) -> dict[str, Any]:
        column = self.settings.columns[name]
        if isinstance(column, CategoryColumn):
            ranked = sorted(Counter(cells).items(), key=lambda item: (-item[1], item[0]))
            return {"values": [value for value, _ in ranked[: column.size]]}
        numbers = np.asarray(cells, dtype=np.float64)
        if column.scale == "bins":
            inner = np.linspace(0, 1, column.bins + 1)[1:-1]
            return {"edges": [float(edge) for edge in np.quantile(numbers, inner)]}
        if column.scale == "radial":
            centres = np.linspace(numbers.min(), max(numbers.max(), numbers.min() + _FEWEST), column.bins)
            return {"centres": [float(centre) for centre in centres]}
        numbers = _log(numbers) if column.scale == "log" else numbers
        return {"mean": float(numbers.mean()), "deviation": max(float(numbers.std()), _FEWEST)}

    def _prepare_one(self, value: Any) -> dict[str, Any]:
        """The columns that the settings name and the object has: numbers as floats, categories as texts."""
        if not isinstance(value, str):
            raise BadValueError("wrong_type", f"A {type(value).__name__} came where a JSON object was expected.")
        if len(value) > self.settings.max_chars:
            raise BadValueError("too_long", f"The attributes have {len(value)} characters.")
        try:
            row = json.loads(value)
        except ValueError as error:
            raise BadValueError("undecodable", "The attributes are not JSON.") from error
        if not isinstance(row, dict):
            raise BadValueError("wrong_type", f"A {type(row).__name__} came where a JSON object was expected.")
        known = {name: row[name] for name in self.settings.columns if row.get(name) is not None}
        return {name: _cell(name, cell, self.settings.columns[name]) for name, cell in known.items()}

    def _encode(self, examples: list[dict[str, Any]]) -> FloatArray:
        blocks = []
        for name, column in self.settings.columns.items():
            block = np.zeros((len(examples), self._width(name)), dtype=np.float32)
            cells = [example.get(name) for example in examples]
            for row, cell in enumerate(cells):
                if cell is None:
                    block[row, -1] = 1
                elif isinstance(column, CategoryColumn):
                    at, sign = self._place(name, column, cell)
                    block[row, at] = sign
                else:
                    self._measure(name, column, cell, block[row])
            blocks.append(block)
        return np.concatenate(blocks, axis=1)

    def _measure(self, name: str, column: NumberColumn, cell: float, out: FloatArray) -> None:
        facts = self.learned[name]
        if column.scale == "bins":
            out[int(np.searchsorted(facts["edges"], cell, side="right"))] = 1
            return
        if column.scale == "radial":
            centres = np.asarray(facts["centres"])
            # A number beyond what the catalog knew is as the nearest one that it did know.
            steps = (np.clip(cell, centres[0], centres[-1]) - centres) / (centres[1] - centres[0])
            out[: len(centres)] = np.exp(-0.5 * steps**2)
            return
        number = float(_log(np.float64(cell))) if column.scale == "log" else cell
        out[0] = (
            (number - facts["mean"]) / facts["deviation"] if facts["deviation"] > _FEWEST else number - facts["mean"]
        )

    def _place(self, name: str, column: CategoryColumn, cell: str) -> tuple[int, float]:
        if column.how == "onehot":
            values = self.learned[name]["values"]
            return (values.index(cell) if cell in values else column.size), 1.0
        digest = int.from_bytes(hashlib.blake2b(cell.encode("utf-8", "replace"), digest_size=8).digest(), "little")
        return (digest >> 1) % column.size, 1.0 if digest & 1 else -1.0


def _log(number: Any) -> Any:
    return np.sign(number) * np.log1p(np.abs(number))


def _cell(name: str, cell: Any, column: NumberColumn | CategoryColumn) -> Any:
    if isinstance(column, CategoryColumn):
        if isinstance(cell, (dict, list)):
            raise BadValueError(
                "wrong_type", f"The column {name!r} holds a nested value where a category was expected."
            )
        return cell if isinstance(cell, str) else json.dumps(cell)
    number = _years(name, cell) if column.kind == "date" else cell
    if isinstance(number, bool):
        return float(number)
    if not isinstance(number, (int, float)):
        raise BadValueError("wrong_type", f"The column {name!r} holds a text where a number was expected.")
    if not math.isfinite(number):
        raise BadValueError("non_finite", f"The column {name!r} holds NaN or infinity.")
    return float(number)


def _years(name: str, cell: Any) -> float:
    """Years since 1970 of an ISO date or timestamp."""
    try:
        moment = datetime.datetime.fromisoformat(cell)
    except (TypeError, ValueError) as error:
        raise BadValueError("wrong_type", f"The column {name!r} holds no date in ISO format.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds() / _SECONDS_A_YEAR
