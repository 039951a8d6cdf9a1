"""What a step shows to a loss, small and made by hand."""

from __future__ import annotations

import torch

from crossweave.alignment import LOSSES, find
from crossweave.alignment.losses.base import AlignmentLoss, BehaviourLoss, Choices
from crossweave.alignment.user_parts import UNKNOWN, UserBatch

DIM, MODALITIES = 8, 3
ALIGNMENT = [name for name in LOSSES if issubclass(find(LOSSES, "loss", name), AlignmentLoss)]
BEHAVIOUR = [name for name in LOSSES if issubclass(find(LOSSES, "loss", name), BehaviourLoss)]
RANKING = [name for name in BEHAVIOUR if find(LOSSES, "loss", name).ranks]


def tokens(rows=6):
    value = torch.nn.functional.normalize(torch.randn(rows, MODALITIES, DIM), dim=2)
    return value.requires_grad_(), torch.ones(rows, MODALITIES, dtype=torch.bool)


def strangers(count):
    """Return users of whom nothing is known but their histories."""
    return UserBatch(torch.full((count,), UNKNOWN), torch.empty(count, 0, dtype=torch.int64))


def align(loss, token, present):
    """Return an alignment loss of as many different items."""
    return loss(token, present, torch.arange(len(token)))


def choices(scores, positives, log_inclusion=None, rating=None, users=None, items=None):
    """Return what a behaviour loss sees; ratings in the order of the positives."""
    taken = positives.nonzero(as_tuple=True)
    return Choices(
        scores,
        positives,
        torch.zeros(scores.shape[1]) if log_inclusion is None else log_inclusion,
        taken,
        torch.zeros(len(taken[0])) if rating is None else rating,
        torch.zeros(len(scores), DIM) if users is None else users,
        torch.zeros(scores.shape[1], DIM) if items is None else items,
    )


def some_choices(rows=4, columns=9, dtype=torch.float32):
    """Return random choices of one target a user, and the leaves that gradients should reach."""
    positives = torch.zeros(rows, columns, dtype=dtype)
    positives[torch.arange(rows), torch.arange(rows)] = torch.rand(rows, dtype=dtype) + 0.5
    leaves = [
        torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in ((rows, columns), (rows, DIM), (columns, DIM))
    ]
    scores, users, items = leaves
    return choices(
        scores, positives, -torch.rand(columns, dtype=dtype), torch.randn(rows, dtype=dtype), users, items
    ), leaves
