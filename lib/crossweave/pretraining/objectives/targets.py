"""What objectives share that learn from a vector beside each content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossweave.pretraining.objectives.base import Corpus, Inputs, Objective


@dataclass(frozen=True)
class Aimed:
    """Contents, and the vector that belongs to each."""

    contents: Inputs
    targets_BE: Tensor  # float32


class TargetObjective(Objective[Aimed]):
    """An objective that learns from contents and their targets."""

    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> Aimed:
        """Take the chosen contents."""
        assert corpus.targets is not None
        contents = self.inputs(corpus.contents[i] for i in chosen)
        return Aimed(contents, torch.from_numpy(corpus.targets[chosen]))
