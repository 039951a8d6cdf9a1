"""What an encoder has learned of the catalog: a model directory, or an adapter for one, that `embed` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from crossweave.artifacts.sealed import Kind, Sealed, open_required
from crossweave.storage.records import Place

LEARNED = Kind("learned encoder", "learned", "learned.json", 2, "pretrain")
MODEL, ADAPTER = "model", "adapter"
"""Its folders: a whole model with its tokenizer, and what is put on top of a model's weights."""


@dataclass(frozen=True)
class LearnedEncoder:
    """A learned encoder; it travels to workers, each of which has the files on its own machine."""

    sealed: Sealed

    @classmethod
    def open(cls, workspace: Place, fingerprint: str) -> LearnedEncoder:
        """Open one; raises ArtifactError where it is gone or another's. Files are compared as they are used."""
        return cls(open_required(LEARNED, LEARNED.place(workspace, fingerprint), fingerprint))

    def places(self) -> dict[str, Path]:
        """Return the encoder's settings that say where its files lie, on this machine, verified."""
        here = self.sealed.here()
        return {setting: here / name for setting, name in self.sealed.facts["places"].items()}


class WithFiles(Protocol):
    """An encoder, as far as it matters here."""

    def with_files(self, **places: Path) -> Self:
        """Return it with its files elsewhere."""


E = TypeVar("E", bound=WithFiles)


def in_place(encoder: E, learned: LearnedEncoder | None) -> E:
    """Return an encoder with what it has learned on this machine; without anything, as it is."""
    return encoder if learned is None else encoder.with_files(**learned.places())
