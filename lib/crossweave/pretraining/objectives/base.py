"""The contract of an objective: a batch drawn from the corpus in, one loss out, gradients into the encoder.

Letters in names: B examples of a batch, T tokens of the longest, V words, D the encoder's width, U users, N items,
E the width of targets, W that of a projection.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pydantic
import torch
from torch import Tensor

from crossweave.encoders.base import EncoderSettings
from crossweave.encoders.neural import TrainableEncoder
from crossweave.encoders.transformer_text import TransformerEncoder
from crossweave.errors import SettingsError
from crossweave.pretraining.kept import kept_by

Inputs = tuple[Tensor, ...]
"""Examples as the encoder collates them."""


@dataclass(frozen=True)
class Corpus:
    """What a rank learns from: contents as `kept` keeps them, and what stands beside them where it is asked for."""

    contents: Sequence[bytes]
    histories: Sequence[np.ndarray] = field(default_factory=list)  # what users took: positions in `contents`
    targets: np.ndarray | None = None  # float32 [contents, E]: the vector that belongs to each
    takers: np.ndarray | None = None  # how many users, of all ranks, took each content, of those that are learned from

    def took(self) -> np.ndarray:
        """Return how many of these users took each content, int64 [contents]."""
        took = np.concatenate(self.histories) if self.histories else np.empty(0, np.int64)
        return np.bincount(took, minlength=len(self.contents))


@dataclass(frozen=True)
class Vocabulary:
    """What the tokenizer says: how many words, and which ids are no words."""

    size: int
    mask: int | None
    special: frozenset[int]


def vocabulary_of(encoder: TransformerEncoder) -> Vocabulary:
    """Return what an encoder's tokenizer says of its words."""
    tokenizer = encoder.tokenizer
    return Vocabulary(len(tokenizer), tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids))


Batch = TypeVar("Batch")


class Objective(torch.nn.Module, abc.ABC, Generic[Batch]):
    """What an encoder learns by. A subclass gives `draw`, `forward` and, if it does not learn from all, `usable`.

    `network` is the encoder's, with the weights that may change marked; weights of the objective's own always learn.
    """

    Settings: ClassVar[type[EncoderSettings]] = EncoderSettings
    reads_histories: ClassVar[bool] = False
    learners: ClassVar[type[TrainableEncoder] | type] = TrainableEncoder
    """Which encoders can learn by it."""

    def __init__(self, encoder: TrainableEncoder, network: Any, settings: EncoderSettings, width: int = 0) -> None:
        """`width`: of the targets, where the objective reads some."""
        super().__init__()
        self.encoder, self.network, self.settings = encoder, network, settings
        self.kept = kept_by(encoder)
        self.gather: Callable[[Tensor], tuple[Tensor, int]] | None = None
        self.masks: dict[str, Tensor] = {}
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        """Where the network computes in 16 bits; losses never do."""

    @classmethod
    def check(cls, own: Mapping[str, Any], where: str) -> EncoderSettings:
        """Raise SettingsError for settings that the objective does not take; `where` says whose they are."""
        try:
            return cls.Settings.model_validate(dict(own))
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
        return len(corpus.histories if cls.reads_histories else corpus.contents)

    @abc.abstractmethod
    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> Batch:
        """Make a batch, on the CPU, of the examples of these numbers."""

    @abc.abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""

    def gathered(self, rows: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all ranks and where this one's begin; of its own alone while it judges."""
        rows = rows.float()  # Horovod knows no bfloat16
        return (rows, 0) if self.gather is None or not self.training else self.gather(rows)

    def constrain(self) -> None:
        """Set weights of `masks` to zero again, which an optimizer's step does not leave there."""
        with torch.no_grad():
            for name, mask in self.masks.items():
                weight = self.network.get_parameter(name)
                self.masks[name] = mask.to(weight.device)
                weight.mul_(self.masks[name])

    def train(self, mode: bool = True) -> Any:
        """Learn, or judge; what batch norms know of the pictures they once learned from stays in both."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def inputs(self, contents: Iterable[bytes]) -> Inputs:
        """Put contents side by side, as they are encoded."""
        return self.encoder.collate([self.kept.example(data) for data in contents])

    def vectors(self, inputs: Inputs) -> Tensor:
        """Return the encoder's vectors [B, D], float32."""
        with self.autocast():
            return self.encoder.vectors(self.network, *inputs).float()


class TiedHead(torch.nn.Module):
    """Scores of all words from token vectors by the encoder's own word vectors (Press & Wolf 2017), with a bias a word.

    In front of them, where `transform`, what BERT (Devlin et al. 2019) has: dense → GELU → LayerNorm.
    """

    def __init__(self, network: Any, transform: bool) -> None:
        super().__init__()
        words_VD = network.get_input_embeddings().weight
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

    learners = TransformerEncoder
    transform: ClassVar[bool]  # as TiedHead takes it
    encoder: TransformerEncoder

    def __init__(self, encoder: TransformerEncoder, network: Any, settings: EncoderSettings, width: int = 0) -> None:
        super().__init__(encoder, network, settings, width)
        self.vocabulary = vocabulary_of(encoder)
        self.head = TiedHead(network, self.transform)

    def scores(self, texts: Inputs, told: Any) -> Tensor:
        """Return the scores of all words, float32, at the token vectors [B, T, D] that `told` picks."""
        with self.autocast():
            scores: Tensor = self.head(self.encoder.states(self.network, *texts)[told])
        return scores.float()


class Scale(torch.nn.Module):
    """A learned temperature, as CLIP (Radford et al. 2021) has: cosines are multiplied by its inverse, 100 at most."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, cosines: Tensor) -> Tensor:
        """Return scores."""
        return cosines * self.log_scale.exp().clamp(max=100.0)
