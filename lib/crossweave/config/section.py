"""What the sections of the settings share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Split = Literal["train", "valid", "test"]
TimeUnit = Literal["s", "ms", "us", "ns"]
Derived = dict[str, Annotated[str, Field(min_length=1)]]
Kind = Literal["text", "image", "audio", "video", "tags", "attributes", "vector", "vector_id"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Section(BaseModel):
    """Base of every section: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
