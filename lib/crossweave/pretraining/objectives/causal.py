"""Causal language modelling (Radford et al. 2019): the next word from those before it, for GPT-like encoders."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from crossweave.pretraining.objectives.base import Corpus, Inputs, WordObjective


class Causal(WordObjective[Inputs]):
    """Cross-entropy of every word but the first, given those before it."""

    transform: ClassVar[bool] = False

    @classmethod
    def usable(cls, corpus: Corpus) -> Corpus:
        """Leave out texts of one word, which have no next one."""
        return Corpus([ids for ids in corpus.contents if len(ids) > 4])

    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> Inputs:
        """Take the chosen texts."""
        return self.inputs(corpus.contents[i] for i in chosen)

    def forward(self, batch: Inputs) -> Tensor:
        """Return the mean loss a word."""
        ids_BT, mask_BT = batch
        told_BT = torch.nn.functional.pad(mask_BT[:, 1:], (0, 1))  # where a word follows
        return torch.nn.functional.cross_entropy(self.scores(batch, told_BT), ids_BT[:, 1:][told_BT[:, :-1]])
