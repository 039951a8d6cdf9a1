"""What the sections of the settings share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Value = TypeVar("Value")


def sorted_by_name(value: Any) -> Any:
    """Return a value with every mapping in it, however deep, in the order of its keys; lists keep theirs."""
    if isinstance(value, dict):
        return {key: sorted_by_name(value[key]) for key in sorted(value, key=str)}
    return [sorted_by_name(part) for part in value] if isinstance(value, list) else value


ByName = Annotated[dict[str, Value], AfterValidator(sorted_by_name)]
"""A mapping whose order means nothing: kept by name, so that no result can depend on how a file was written."""
InOrder = dict[str, Value]
"""A mapping whose order means something, and is kept."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Split = Literal["train", "valid", "test"]
Kind = Literal["text", "image", "audio", "video", "tags", "attributes", "vector", "vector_id"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Section(BaseModel):
    """Base of every section: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
