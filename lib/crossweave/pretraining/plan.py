"""What every rank of a pretraining is told: plain values that travel by pickle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossweave.artifacts.learned import LearnedEncoder, in_place
from crossweave.config.pretraining import PretrainStep
from crossweave.encoders.neural import TrainableEncoder
from crossweave.feeding.corpus import CorpusFiles
from crossweave.storage.location import Location


@dataclass(frozen=True)
class PretrainPlan:
    """One pretraining: the encoder it starts from, how it learns, and where its files go."""

    task: PretrainStep
    encoder: TrainableEncoder
    files: LearnedEncoder | None  # where the encoder's lie, if not where its settings say
    folder: Location  # checkpoints, best weights and TensorBoard
    progress: Location  # JSON lines, one an epoch, written by rank 0
    threads: int
    seed: int
    device: str = "auto"
    keep_checkpoints: int = 2
    checkpoint_minutes: float = 10.0
    corpus: CorpusFiles | None = None  # None: whoever starts the ranks has their shares
    width: int = 0  # of the vectors beside the contents

    def encoder_here(self) -> TrainableEncoder:
        """Return the encoder with its files on this machine."""
        return in_place(self.encoder, self.files)

    def draws(self, *numbers: int) -> np.random.Generator:
        """Return the random numbers of an epoch, a step and a rank; a resumed run draws the same ones."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *numbers]))
