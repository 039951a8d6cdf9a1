"""Cross-modal InfoNCE with a learned temperature."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.losses.base import AlignmentLoss, Alone
from crossweave.alignment.ranges import Above0

LARGEST_SCALE = math.log(100.0)  # as in CLIP: a temperature below 0.01 makes the loss blow up


class InfoNCE(AlignmentLoss):
    """Symmetric InfoNCE averaged over all pairs of modalities (van den Oord et al. 2018; Radford et al. 2021).

    For a pair (m, n) the other items of the batch that have both modalities are the negatives; with `all_ranks`
    those of all ranks' batches. Each rank then takes its own items as anchors, scaled so that the mean over ranks is
    the loss of one process that holds all batches, and so are value and gradient. An item is no negative of itself on
    another rank.
    """

    def __init__(self, dim: int, modalities: int, temperature: Above0 = 0.1, all_ranks: bool = False) -> None:
        super().__init__(dim, modalities)
        self.all_ranks = all_ranks
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor, index_B: Tensor) -> Tensor:
        """Return the mean loss over the pairs of modalities that at least two items share; 0 where none do."""
        peers = self.peers if self.all_ranks else Alone()
        tokens_AMD, start = peers.gather(tokens_BMD)
        facts_AX, _ = peers.gather(torch.cat([index_B[:, None], present_BM.long()], dim=1))
        index_A, present_AM = facts_AX[:, 0], facts_AX[:, 1:] > 0
        place_A = torch.arange(len(index_A), device=index_A.device)
        mine_A = (place_A >= start) & (place_A < start + len(index_B))
        scale = self.log_scale.clamp(max=LARGEST_SCALE).exp()
        losses = []
        # All ranks see the same items and so walk the same pairs: they meet again in the gradient of `gather`.
        for m, n in itertools.combinations(range(tokens_AMD.shape[1]), 2):
            both_A = present_AM[:, m] & present_AM[:, n]
            if both_A.sum() < 2:
                continue
            first_PD, second_PD, index_P = tokens_AMD[both_A, m], tokens_AMD[both_A, n], index_A[both_A]
            own = mine_A[both_A].nonzero().squeeze(1)
            logits = scale * first_PD[own] @ second_PD.T
            # Alone, the other direction is the same matrix, turned.
            turned = logits.T if len(own) == len(index_P) else scale * second_PD[own] @ first_PD.T
            if self.all_ranks:
                twin = index_P[own, None] == index_P
                twin[torch.arange(len(own)), own] = False
                logits, turned = logits.masked_fill(twin, -torch.inf), turned.masked_fill(twin, -torch.inf)
            anchors = max(1, len(own))  # a rank without any has a loss of 0, and a gradient to take part with
            one_way, other_way = (F.cross_entropy(x, own, reduction="sum") / anchors for x in (logits, turned))
            losses.append((one_way + other_way) / 2 * (peers.size * len(own) / len(index_P)))
        # The zero keeps every parameter in the graph: ranks must reduce the same gradients in every step.
        return torch.stack(losses).mean() if losses else 0.0 * (tokens_BMD.sum() + self.log_scale)
