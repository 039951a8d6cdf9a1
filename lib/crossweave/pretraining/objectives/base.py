"""The contract of an objective: a batch drawn from the corpus in, one loss out, gradients into the encoder.

Letters in names: B texts of a batch, T tokens of the longest, V words, D the encoder's width, U users, N items.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pydantic
import torch
from torch import Tensor

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.transformer_text import pad
from crossweave.errors import SettingsError

Ids = np.ndarray
"""The token ids of a text, int32 [T]."""


@dataclass(frozen=True)
class Corpus:
    """What a rank learns from: texts, and what users took of them (positions in `texts`), where that is asked for."""

    texts: Sequence[Ids]
    histories: Sequence[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Vocabulary:
    """What the tokenizer says: how many words, and which ids are no words."""

    size: int
    padding: int
    mask: int | None
    special: frozenset[int]


@dataclass(frozen=True)
class Texts:
    """Padded texts."""

    ids_BT: Tensor
    mask_BT: Tensor  # bool; false: padding


Batch = TypeVar("Batch")


class Objective(torch.nn.Module, abc.ABC, Generic[Batch]):
    """What an encoder learns by. A subclass gives `draw`, `forward` and, if it does not learn from all, `usable`.

    `encoder` is a model as transformers' AutoModel loads it; weights of the objective's own always learn.
    """

    Settings: ClassVar[type[EncoderSettings]] = EncoderSettings
    reads_histories: ClassVar[bool] = False

    def __init__(self, encoder: Any, vocabulary: Vocabulary, pooling: str, settings: EncoderSettings) -> None:
        super().__init__()
        self.encoder, self.vocabulary, self.pooling, self.settings = encoder, vocabulary, pooling, settings

    @classmethod
    def check(cls, own: Mapping[str, Any], where: str) -> None:
        """Raise SettingsError for settings that the objective does not take; `where` says whose they are."""
        try:
            cls.Settings.model_validate(dict(own))
        except pydantic.ValidationError as error:
            found = ((".".join(map(str, item["loc"])), item) for item in error.errors())
            wrong = "; ".join(f"{place}: {item['msg']}, got {item['input']!r:.100}" for place, item in found)
            known = ", ".join(sorted(cls.Settings.model_fields)) or "none"
            raise SettingsError(f"{where}: {wrong}", f"its own settings: {known}") from error

    @classmethod
    def usable(cls, corpus: Corpus) -> Corpus:
        """Return the part of a corpus that there is something to learn from."""
        return corpus

    @classmethod
    def examples(cls, corpus: Corpus) -> int:
        """Return how many examples a usable corpus has."""
        return len(corpus.histories if cls.reads_histories else corpus.texts)

    @abc.abstractmethod
    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> Batch:
        """Make a batch, on the CPU, of the examples of these numbers."""

    @abc.abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""

    def padded(self, texts: Sequence[Ids]) -> Texts:
        """Put texts side by side, padding on the right."""
        return Texts(*pad(texts, self.vocabulary.padding))

    def states(self, texts: Texts) -> Tensor:
        """Return the encoder's token vectors [B, T, D]."""
        found: Tensor = self.encoder(input_ids=texts.ids_BT, attention_mask=texts.mask_BT.long()).last_hidden_state
        return found


class TiedHead(torch.nn.Module):
    """Scores of all words from token vectors by the encoder's own word vectors (Press & Wolf 2017), with a bias a word.

    In front of them, where `transform`, what BERT (Devlin et al. 2019) has: dense → GELU → LayerNorm.
    """

    def __init__(self, encoder: Any, transform: bool) -> None:
        super().__init__()
        words_VD = encoder.get_input_embeddings().weight
        size, width = words_VD.shape
        self._words = [words_VD]  # in a list, so that it stays the encoder's
        self.bias_V = torch.nn.Parameter(torch.zeros(size))
        self.transform = (
            torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.LayerNorm(width))
            if transform
            else torch.nn.Identity()
        )

    def forward(self, states: Tensor) -> Tensor:
        """Token vectors [..., D] to scores [..., V]."""
        return self.transform(states) @ self._words[0].T.to(states.dtype) + self.bias_V


class WordObjective(Objective[Batch]):
    """An objective that tells words, by a head of its own."""

    transform: ClassVar[bool]  # as TiedHead takes it

    def __init__(self, encoder: Any, vocabulary: Vocabulary, pooling: str, settings: EncoderSettings) -> None:
        super().__init__(encoder, vocabulary, pooling, settings)
        self.head = TiedHead(encoder, self.transform)
