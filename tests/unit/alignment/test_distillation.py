"""Distillation: content learns what a teacher knows of items, and carries it to items that it does not know."""

from __future__ import annotations

import pytest
import torch

from crossweave.alignment import LOSSES, build
from crossweave.alignment.losses.distillation import Distillation


def distillation(rank: int, dim: int = 2) -> Distillation:
    made: Distillation = build(LOSSES, "loss", "distillation", dim, 3, rank=rank)
    return made


def test_its_value_is_one_minus_the_mean_cosine_over_the_items_that_the_teacher_knows() -> None:
    loss = distillation(rank=2)
    with torch.no_grad():
        loss.out.weight.copy_(torch.eye(2))
    loss.teach(torch.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]]))
    content = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 5.0]], requires_grad=True)
    # Items 2, 1 and 0: the same direction, unknown to the teacher, a right angle.
    value = loss(content, torch.tensor([2, 1, 0]))
    assert value.item() == pytest.approx((0.0 + 0.0) / 2)
    value = loss(content, torch.tensor([0, 1, 2]))
    assert value.item() == pytest.approx((1.0 + 1.0) / 2)
    value.backward()
    assert content.grad is not None
    assert (content.grad.abs().sum(dim=1) > 0).tolist() == [True, False, True]


def test_where_the_teacher_knows_nobody_it_is_zero_and_can_still_be_reduced() -> None:
    loss = distillation(rank=4)
    loss.teach(torch.zeros(5, 4))
    value = loss(torch.randn(5, 2, requires_grad=True), torch.arange(5))
    assert value.item() == 0.0
    value.backward()


def test_what_it_learns_holds_for_items_that_the_teacher_does_not_know() -> None:
    torch.manual_seed(3)
    content, turn = torch.randn(80, 6), torch.randn(6, 5)
    teacher = content @ turn
    known = teacher.clone()
    known[60:] = 0.0
    loss = distillation(rank=5, dim=6)
    loss.teach(known)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss(content, torch.arange(80)).backward()
        optimizer.step()
    cosine = torch.nn.functional.cosine_similarity(loss.out(content[60:]), teacher[60:], dim=1)
    assert cosine.mean() > 0.95


def test_the_teacher_is_no_part_of_the_weights() -> None:
    loss = distillation(rank=4)
    loss.teach(torch.ones(5, 4))
    assert set(loss.state_dict()) == {"out.weight"}
