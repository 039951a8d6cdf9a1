"""Masked language modelling (Devlin et al. 2019): words are hidden, and told by those around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from crossweave.encoders.base import EncoderSettings
from crossweave.pretraining.objectives.base import Corpus, Inputs, WordObjective


class MaskedSettings(EncoderSettings):
    """Settings of masked language modelling."""

    share: float = Field(0.15, gt=0.0, le=0.5, description="Of the words of a text that are to be told.")


@dataclass(frozen=True)
class MaskedTexts:
    """Texts with hidden words, and which words those were."""

    texts: Inputs
    hidden_BT: Tensor  # bool
    words_H: Tensor  # the words where `hidden_BT`, row by row


class Masked(WordObjective[MaskedTexts]):
    """Cross-entropy of the hidden words: 8 of 10 are masked, 1 is another word, 1 stays; each text has one at least."""

    Settings: ClassVar[type[EncoderSettings]] = MaskedSettings
    transform: ClassVar[bool] = True
    settings: MaskedSettings

    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> MaskedTexts:
        """Hide words of the chosen texts."""
        whole_BT, mask_BT = self.inputs(corpus.contents[i] for i in chosen)
        ids_BT = whole_BT.numpy().copy()
        words_BT = mask_BT.numpy() & ~np.isin(ids_BT, list(self.vocabulary.special))
        drawn_BT = np.where(words_BT, generator.random(ids_BT.shape), 2.0)
        hidden_BT = drawn_BT < self.settings.share
        first_B = drawn_BT.argmin(axis=1)
        hidden_BT[np.arange(len(first_B)), first_B] |= words_BT.any(axis=1)
        told = torch.from_numpy(ids_BT[hidden_BT])
        kind_BT, other_BT = generator.random(ids_BT.shape), generator.integers(0, self.vocabulary.size, ids_BT.shape)
        assert self.vocabulary.mask is not None
        ids_BT[hidden_BT & (kind_BT < 0.8)] = self.vocabulary.mask
        swapped_BT = hidden_BT & (kind_BT >= 0.8) & (kind_BT < 0.9)
        ids_BT[swapped_BT] = other_BT[swapped_BT]
        return MaskedTexts((torch.from_numpy(ids_BT), mask_BT), torch.from_numpy(hidden_BT), told)

    def forward(self, batch: MaskedTexts) -> Tensor:
        """Return the mean loss a hidden word."""
        return torch.nn.functional.cross_entropy(self.scores(batch.texts, batch.hidden_BT), batch.words_H)
