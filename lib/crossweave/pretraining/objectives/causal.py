"""Causal language modelling (Radford et al. 2019): the next word from those before it, for GPT-like encoders."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from crossweave.pretraining.objectives.base import Corpus, Texts, WordObjective


class Causal(WordObjective[Texts]):
    """Cross-entropy of every word but the first, given those before it."""

    transform: ClassVar[bool] = False

    @classmethod
    def usable(cls, corpus: Corpus) -> Corpus:
        """Leave out texts of one word, which have no next one."""
        return Corpus([ids for ids in corpus.texts if len(ids) > 1])

    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> Texts:
        """Take the chosen texts."""
        return self.padded([corpus.texts[i] for i in chosen])

    def forward(self, batch: Texts) -> Tensor:
        """Return the mean loss a word."""
        scores_BTV = self.head(self.states(batch)[:, :-1])
        told_BT = batch.mask_BT[:, 1:]
        return torch.nn.functional.cross_entropy(scores_BTV[told_BT].float(), batch.ids_BT[:, 1:][told_BT])
