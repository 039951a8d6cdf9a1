"""Linear alignment: every token to the mean of its item's tokens."""

from __future__ import annotations

from torch import Tensor

from crossweave.alignment.losses.base import AlignmentLoss, in_company


class Linear(AlignmentLoss):
    """‖xₘ − x̄‖² averaged over the tokens of items that have at least two, x̄ the mean of the item's tokens.

    The squared Frobenius distance to a shared representation, as in multiview generalised canonical correlation
    (Kettenring 1971, MAXVAR), without its constraint: the unit norm of the tokens and the behaviour losses keep
    everything from collapsing into one point.
    """

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor, index_B: Tensor) -> Tensor:
        """Return the mean squared distance; 0 where no item has two modalities."""
        used_BM = in_company(present_BM)
        kept_BMD = tokens_BMD * used_BM[..., None]
        mean_BD = kept_BMD.sum(dim=1) / used_BM.sum(dim=1, keepdim=True).clamp(min=1)
        distance_BM = (kept_BMD - mean_BD[:, None]).square().sum(dim=2) * used_BM
        return distance_BM.sum() / used_BM.sum().clamp(min=1)
