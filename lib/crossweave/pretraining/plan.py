"""What every rank of a pretraining is told: plain values that travel by pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossweave.artifacts.learned import LearnedEncoder
from crossweave.config.pretraining import PretrainStep
from crossweave.feeding.corpus import CorpusFiles
from crossweave.pretraining.objectives.base import Vocabulary
from crossweave.storage.location import Location


@dataclass(frozen=True)
class PretrainPlan:
    """One pretraining: the encoder it starts from, how it learns, and where its files go."""

    task: PretrainStep
    base: Path | LearnedEncoder  # directory of the model, on every host, or what an earlier step learned
    vocabulary: Vocabulary
    pooling: str
    folder: Location  # checkpoints, best weights and TensorBoard
    progress: Location  # JSON lines, one an epoch, written by rank 0
    threads: int
    seed: int
    device: str = "auto"
    keep_checkpoints: int = 2
    checkpoint_minutes: float = 10.0
    corpus: CorpusFiles | None = None  # None: whoever starts the ranks has their shares

    def base_here(self) -> Path:
        """Return the directory of the model, on this machine."""
        return self.base if isinstance(self.base, Path) else self.base.places()["path"]

    def draws(self, *numbers: int) -> np.random.Generator:
        """Return the random numbers of an epoch, a step and a rank; a resumed run draws the same ones."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *numbers]))
