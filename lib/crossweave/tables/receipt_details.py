"""What each stage's receipt says beyond what was read and written: one typed record a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ingested:
    """Of ingest."""

    id_types: dict[str, str] = field(default_factory=dict)  # item, user -> integer or string, as the input has them
    refused_by: str = ""  # the run that the quarantine rows of this night carry
    repeated_ids: int = 0  # item rows that were refused because their id was there already
    prints: dict[str, str] = field(default_factory=dict)  # input table -> what decided it
    split: dict[str, Any] = field(default_factory=dict)  # how the interactions were parted
    files: dict[str, Any] = field(default_factory=dict)  # file of the items table -> stamp


@dataclass(frozen=True)
class Feature:
    """Of embed, for a modality: where its vectors are and what they are like."""

    table: str
    fingerprint: str  # of the encoder
    dim: int
    precision: str = ""


@dataclass(frozen=True)
class Tensors:
    """Of tensors."""

    folder: str = ""  # of the set, below tensors/
    protocol: str = ""  # warm or cold


@dataclass(frozen=True)
class Trained:
    """Of train."""

    folder: str = ""  # of the model, below models/
    tensors: str = ""  # fingerprint of the set that it was trained on


@dataclass(frozen=True)
class Scored:
    """Of score."""

    protocol: str = ""
    model: str = ""  # folder, below models/
    scored: str = ""  # folder of the scored vectors, below scored/
    held_out_known: int = 0  # pairs that the lists would be judged by and were made with
    basis: str = ""  # where score.incremental: the fingerprint of all that every list depends on


@dataclass(frozen=True)
class Evaluated:
    """Of evaluate."""

    report: str = ""
    summary: str = ""
    protocol: str = ""
    refused: list[str] = field(default_factory=list)  # why the judged run may not be served, sentence by sentence
    judged: str = ""  # the run of the score stage that was judged
    comparisons: dict[str, Any] = field(default_factory=dict)  # rows, left_out: what the gate can be asked again by


Embedded = dict[str, Feature]
"""Of embed, by modality."""


def _embedded(given: Mapping[str, Any]) -> Embedded:
    return {modality: Feature(**feature) for modality, feature in given.items()}


DETAILS: dict[str, Callable[..., Any]] = {
    "ingest": lambda given: Ingested(**given),
    "embed": _embedded,
    "tensors": lambda given: Tensors(**given),
    "train": lambda given: Trained(**given),
    "score": lambda given: Scored(**given),
    "evaluate": lambda given: Evaluated(**given),
}
"""Stage -> what makes its details of their JSON; a stage that is not named has none."""
