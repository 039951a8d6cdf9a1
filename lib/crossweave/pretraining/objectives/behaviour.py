"""Contents that say who will want them: learned from what users took together (beeFormer, Vančura et al. 2024).

The items' vectors, of length 1, are the rows of a shallow linear autoencoder (ELSA, Vančura et al. 2022) whose weights
are the encoder's: a user's items, through A Aᵀ − I, should give the user's items again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from crossweave.encoders.base import EncoderSettings
from crossweave.pretraining.objectives.base import Corpus, Inputs, Objective


class BehaviourSettings(EncoderSettings):
    """Settings of learning from behaviour."""

    items: int = Field(256, ge=8, description="Contents encoded in a step; those that its users took come first.")
    balance: float = Field(
        0.0, ge=0.0, le=1.0, description="How much less of the loss an item has that many took: by takers to the power."
    )


@dataclass(frozen=True)
class Taken:
    """Contents of some items, which of them some users took, and what each weighs."""

    contents: Inputs  # N of them
    taken_UN: Tensor  # float32, 0 or 1
    weights_N: Tensor  # float32, 1 on average


class Behaviour(Objective[Taken]):
    """Mean over users of ‖x̂ − ŷ‖², hats for length 1: x what a user took, y = x(AAᵀ − I), A the items' vectors.

    Both weigh each item by its root of takers^−`balance`, so that what everybody took does not decide alone.
    """

    Settings: ClassVar[type[EncoderSettings]] = BehaviourSettings
    reads_histories: ClassVar[bool] = True
    settings: BehaviourSettings

    @classmethod
    def usable(cls, corpus: Corpus) -> Corpus:
        """Leave out users of one item, who say nothing of two that go together."""
        return Corpus(corpus.contents, [taken for taken in corpus.histories if len(taken) > 1])

    def draw(self, corpus: Corpus, chosen: np.ndarray, generator: np.random.Generator) -> Taken:
        """Take the chosen users, a fair draw of their items where they have more than fit, and others as negatives."""
        wanted, limit = [corpus.histories[user] for user in chosen], min(self.settings.items, len(corpus.contents))
        items_N = generator.permutation(np.unique(np.concatenate(wanted)))[:limit]
        if len(items_N) < limit:
            others = np.setdiff1d(np.arange(len(corpus.contents)), items_N, assume_unique=True)
            items_N = np.concatenate([items_N, generator.choice(others, limit - len(items_N), replace=False)])
        taken_UN = np.stack([np.isin(items_N, taken) for taken in wanted]).astype(np.float32)
        takers = corpus.took() if corpus.takers is None else corpus.takers
        weights_N = np.maximum(takers[items_N], 1.0) ** -self.settings.balance
        weights_N = (weights_N / weights_N.mean()).astype(np.float32)
        contents = self.inputs(corpus.contents[i] for i in items_N)
        return Taken(contents, torch.from_numpy(taken_UN), torch.from_numpy(weights_N))

    def forward(self, batch: Taken) -> Tensor:
        """Return the mean loss a user; one of whom fewer than two items are there says nothing."""
        vectors_ND = normalize(self.vectors(batch.contents), dim=1)
        taken_UN = batch.taken_UN[batch.taken_UN.sum(dim=1) > 1]
        told_UN = (taken_UN @ vectors_ND) @ vectors_ND.T - taken_UN
        roots_N = batch.weights_N.sqrt()
        loss_U = (normalize(taken_UN * roots_N, dim=1) - normalize(told_UN * roots_N, dim=1)).square().sum(dim=1)
        return loss_U.mean() if len(loss_U) else vectors_ND.sum() * 0.0
