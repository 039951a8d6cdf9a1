"""What the sections of the settings share."""

from __future__ import annotations

import types
from collections import Counter
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Value = TypeVar("Value")


def sorted_by_name(value: Any) -> Any:
    """Return a value with every mapping in it, however deep, in the order of its keys, as texts; lists keep theirs.

    Raises ValueError where two keys are the same text: YAML tells 1 from "1", what is saved does not.
    """
    if isinstance(value, dict):
        named = {str(key): value[key] for key in sorted(value, key=str)}
        if len(named) < len(value):
            raise ValueError(f"{sorted(named)[0]!r} or another name stands there twice, as a number and as a text")
        return {name: sorted_by_name(below) for name, below in named.items()}
    return [sorted_by_name(part) for part in value] if isinstance(value, list) else value


ByName = Annotated[dict[str, Value], AfterValidator(sorted_by_name)]
"""A mapping whose order means nothing: kept by name, so that no result can depend on how a file was written."""
InOrder = dict[str, Value]
"""A mapping whose order means something, and is kept."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy, torch, Spark and Optuna all take
Split = Literal["train", "valid", "test"]
TimeUnit = Literal["s", "ms", "us", "ns"]
Derived = ByName[Annotated[str, Field(min_length=1)]]
Kind = Literal["text", "image", "audio", "video", "tags", "attributes", "vector", "vector_id"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Section(BaseModel):
    """Base of every section: frozen, a key it does not know is an error, and numbers are finite.

    A list or mapping holds a name once, however it is capitalised: Spark knows columns by their letters alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        if _truth_for_number(cls.model_fields[str(info.field_name)].annotation, value):
            raise ValueError("expected a number, not true or false")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _holds_a_name_once(cls, value: Any) -> Any:
        names = [name.casefold() if isinstance(name, str) else name for name in _names(value)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands there twice")
        return value


def _truth_for_number(annotation: Any, value: Any) -> bool:
    """Say whether a value is, or holds, true or false where only a number is meant; pydantic takes them for 1 and 0."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _truth_for_number(inner[0], value)
    if isinstance(value, list | tuple) and origin in (list, tuple):
        return any(_truth_for_number(inner[0], one) for one in value)
    choices = inner if origin in (Union, types.UnionType) else (annotation,)
    plain = [get_args(one)[0] if get_origin(one) is Annotated else one for one in choices]
    return isinstance(value, bool) and any(one in (int, float) for one in plain) and bool not in plain


def _names(value: Any) -> list[Any]:
    """Return the texts and whole numbers that a list holds, or the keys of a mapping."""
    if not isinstance(value, list | dict):
        return []
    return [one for one in value if isinstance(one, str | int) and not isinstance(one, bool)]
