"""What a model is made of: enough to build it again from its weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

IN_ORDER = ("modalities", "user_attributes")
"""Mappings whose order is that of tensors: stored as lists of pairs, which no writer of JSON can sort."""


@dataclass(frozen=True)
class ModelSpec:
    """The architecture of an alignment model; it is stored as JSON beside the weights."""

    modalities: dict[str, int]  # name -> dim of its encoder's vectors, in order
    items: int  # size of the item index
    dim: int
    fusion: str
    user_tower: str
    losses: dict[str, float]
    projector_hidden: int
    item_id: bool
    item_id_dropout: float
    modality_dropout: float
    fusion_settings: dict[str, Any] = field(default_factory=dict)
    user_tower_settings: dict[str, Any] = field(default_factory=dict)
    loss_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    token_norm: str = "unit"
    max_norm: float | None = None
    head: str = "dot"
    head_settings: dict[str, Any] = field(default_factory=dict)
    users: int = 0  # with training interactions
    user_attributes: dict[str, int] = field(default_factory=dict)  # name -> number of its codes, in order
    user_attribute_dropout: float = 0.0
    user_id: bool = False
    user_id_dropout: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the spec as plain values."""
        return asdict(self) | {name: [list(pair) for pair in getattr(self, name).items()] for name in IN_ORDER}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec that `as_json` gave."""
        return cls(**{**values, **{name: dict(values[name]) for name in IN_ORDER}})
