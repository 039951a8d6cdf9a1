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
class Attempt:
    """Of pretrain, for an encoder: what came of its learning."""

    asked: str  # fingerprint of what the settings asked for, and of the weights that it began with
    date: str  # YYYY-MM-DD
    run_id: str
    learned: str  # fingerprint of the artifact; empty: nothing was better than what was there
    before: str = ""  # fingerprint of what was used until then; empty: the encoder as the settings name it
    history: str = ""  # identity of the interactions, where a later split of theirs could hold out what was learned
    standing: str = "open"  # what the gate said of the first run with it: open, passed or refused


@dataclass(frozen=True)
class Pretrained:
    """Of pretrain, by encoder."""

    last: dict[str, Attempt] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)  # fingerprints of the artifacts that embed takes

    def of(self, encoder: str) -> list[str]:
        """Return the fingerprints of what an encoder has learned, that in use first."""
        last = self.last.get(encoder)
        known = [self.used.get(encoder), *((last.learned, last.before) if last is not None else ())]
        return list(dict.fromkeys(filter(None, known)))

    @property
    def artifacts(self) -> set[str]:
        """The fingerprints of all that is used, or may be again: what was refused gives way to what was before it."""
        return {fingerprint for encoder in {*self.last, *self.used} for fingerprint in self.of(encoder)}


@dataclass(frozen=True)
class Feature:
    """Of embed, for a modality: where its vectors are and what they are like."""

    table: str
    fingerprint: str  # of the encoder
    dim: int
    precision: str = ""
    learned: str = ""  # fingerprint of the artifact, where the encoder has learned the catalog


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
    origin: str = ""  # fingerprint of what decides the lists but for the date


@dataclass(frozen=True)
class Evaluated:
    """Of evaluate."""

    report: str = ""
    summary: str = ""
    protocol: str = ""
    refused: list[str] = field(default_factory=list)  # why the judged run may not be served, sentence by sentence
    judged: str = ""  # the run of the score stage that was judged
    comparisons: dict[str, Any] = field(default_factory=dict)  # rows, left_out: what the gate can be asked again by
    drifted: list[str] = field(default_factory=list)  # the warnings of drift that no other encoder explains
    headline: list[dict[str, Any]] = field(default_factory=list)  # figures of the summary: name, value, low, high


Embedded = dict[str, Feature]
"""Of embed, by modality."""


def _embedded(given: Mapping[str, Any]) -> Embedded:
    return {modality: Feature(**feature) for modality, feature in given.items()}


def _pretrained(given: Mapping[str, Any]) -> Pretrained:
    return Pretrained({name: Attempt(**attempt) for name, attempt in given["last"].items()}, dict(given["used"]))


DETAILS: dict[str, Callable[..., Any]] = {
    "ingest": lambda given: Ingested(**given),
    "pretrain": _pretrained,
    "embed": _embedded,
    "tensors": lambda given: Tensors(**given),
    "train": lambda given: Trained(**given),
    "score": lambda given: Scored(**given),
    "evaluate": lambda given: Evaluated(**given),
}
"""Stage -> what makes its details of their JSON; a stage that is not named has none."""
