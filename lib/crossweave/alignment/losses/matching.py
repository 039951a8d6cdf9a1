"""Distribution matching: the modalities' tokens should be spread alike, whichever items they are of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from crossweave.alignment.losses.base import AlignmentLoss
from crossweave.alignment.ranges import Above0


class Coral(AlignmentLoss):
    """¼ ‖Cₘ − Cₙ‖²_F + ‖μₘ − μₙ‖² over all pairs of modalities: deep CORAL (Sun & Saenko 2016, eq. 1) and the means.

    Covariances are those of unit-norm tokens, so no division by d² is needed to keep the scale.
    """

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor, index_B: Tensor) -> Tensor:
        """Return the mean over the pairs of modalities that at least two items each have; 0 where none do."""
        losses = []
        for first_XD, second_YD in _pairs(tokens_BMD, present_BM):
            means = (first_XD.mean(dim=0) - second_YD.mean(dim=0)).square().sum()
            losses.append((_covariance(first_XD) - _covariance(second_YD)).square().sum() / 4 + means)
        return torch.stack(losses).mean() if losses else 0.0 * tokens_BMD.sum()


class Mmd(AlignmentLoss):
    """Squared maximum mean discrepancy with a sum of Gaussian kernels over all pairs of modalities.

    The biased estimate of Gretton et al. 2012, eq. 5, kernels of several widths as in Long et al. 2015, §3.1.
    """

    def __init__(
        self, dim: int, modalities: int, widths: Annotated[Sequence[Above0], Field(min_length=1)] = (0.25, 0.5, 1.0)
    ) -> None:
        super().__init__(dim, modalities)
        self.widths = tuple(widths)

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor, index_B: Tensor) -> Tensor:
        """Return the mean over the pairs of modalities that at least two items each have; 0 where none do."""
        losses = [
            self._kernel(a, a).mean() + self._kernel(b, b).mean() - 2 * self._kernel(a, b).mean()
            for a, b in _pairs(tokens_BMD, present_BM)
        ]
        return torch.stack(losses).mean() if losses else 0.0 * tokens_BMD.sum()

    def _kernel(self, first_XD: Tensor, second_YD: Tensor) -> Tensor:
        # Of unit-norm tokens: ‖x − y‖² = 2 − 2 x·y.
        squared_XY = 2.0 - 2.0 * first_XD @ second_YD.T
        return torch.stack([(-squared_XY / (2 * width * width)).exp() for width in self.widths]).mean(dim=0)


def _pairs(tokens_BMD: Tensor, present_BM: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tokens of two modalities, for every pair that at least two items each have."""
    own = [tokens_BMD[present_BM[:, m], m] for m in range(tokens_BMD.shape[1])]
    yield from itertools.combinations([tokens_XD for tokens_XD in own if len(tokens_XD) > 1], 2)


def _covariance(tokens_XD: Tensor) -> Tensor:
    centred_XD = tokens_XD - tokens_XD.mean(dim=0)
    return centred_XD.T @ centred_XD / (len(tokens_XD) - 1)
