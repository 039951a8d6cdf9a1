"""Settings of the search for settings, and the values that it may give each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from crossweave.config.section import ByName, Count, Positive, Section


class SearchRange(Section):
    """The values that a search may give one setting: `low` to `high`, or a list of `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    step: Annotated[int | float, Field(gt=0)] | None = None
    log: bool = False  # drawn evenly in the logarithm
    choices: Annotated[list[Any], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> SearchRange:
        if self.choices is not None:
            if self.log or (self.low, self.high, self.step) != (None, None, None):
                raise ValueError("expected either choices or low and high, not both")
            return self
        if self.low is None or self.high is None:
            raise ValueError("expected {low, high}, with step or log if you like, or {choices}")
        if self.low >= self.high:
            raise ValueError(f"low must stay below high, got {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0 and no step")
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if not math.isfinite(steps) or abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"high must lie a whole number of steps of {self.step} above low")
        return self

    @property
    def ends(self) -> list[Any]:
        """The values that must be valid for all of them to be: both ends and a step, or every choice."""
        if self.choices is not None or self.low is None:
            return self.choices or []
        return [self.low, self.high, *([self.low + self.step] if self.step is not None else [])]


class SearchSettings(Section):
    """The search for settings of `model` and `train`."""

    trials: Count
    space: ByName[SearchRange]
    sampler: Literal["tpe", "random"]
    max_epochs: Positive | None
    prune: bool

    @field_validator("space", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """Take `{train: {learning_rate: …}}`, which is what --set makes, for `train.learning_rate: …`.

        It is laid over what a file wrote with dots; null takes the entry out.
        """
        if not isinstance(value, dict):
            return value
        flat: dict[str, Any] = {}
        for path, entry in _ranges("", value):
            before = flat.pop(path, None)
            if entry is not None:
                flat[path] = before | entry if isinstance(before, dict) and isinstance(entry, dict) else entry
        return flat

    @model_validator(mode="after")
    def _has_something_to_search(self) -> SearchSettings:
        if self.trials and not self.space:
            raise ValueError("trials need a space: a mapping of setting paths to ranges")
        return self


def _ranges(prefix: str, value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, entry in value.items():
        if isinstance(entry, dict) and entry and not entry.keys() & SearchRange.model_fields.keys():
            yield from _ranges(f"{prefix}{name}.", entry)
        else:
            yield f"{prefix}{name}", entry
