from __future__ import annotations

import numpy as np
import pytest
import torch

from crossweave.alignment import attention
from crossweave.alignment.histories import Histories
from crossweave.alignment.towers.target_attention import TargetAttention

ROWS = [[3, 1, 4], [0], [], [2, 0, 1, 3, 4]]


def tower(limit: int = 100) -> TargetAttention:
    torch.manual_seed(0)
    made = TargetAttention(dim=6, limit=limit)
    with torch.no_grad():
        for parameter in made.parameters():  # it starts as the plain mean: attention must be in play here
            parameter.normal_()
    return made


def scores(
    made: TargetAttention, item_SD: torch.Tensor, rows: list[list[int]], target_CD: torch.Tensor
) -> torch.Tensor:
    user_BD, given = made(item_SD, Histories.from_lists([np.array(row, np.int64) for row in rows]))
    return user_BD @ target_CD.T + given.block(target_CD, target_CD)


def one_pair(made: TargetAttention, item_LD: torch.Tensor, target_D: torch.Tensor) -> torch.Tensor:
    """One user's score of one target by the formula, with a softmax over exactly this user's items."""
    if not len(item_LD):
        return made.newcomer_D @ target_D
    logit_L = made.key(item_LD) @ target_D / 6**0.5
    weight_L = (10 * torch.tanh(logit_L / 10)).softmax(dim=0)
    return weight_L @ ((item_LD + made.value(item_LD)) @ target_D)


@pytest.mark.parametrize("most", [1, 12, 4_000_000])
def test_every_score_is_the_softmax_pooling_for_exactly_this_pair_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(attention, "MOST_NUMBERS", most)
    made, item_SD, target_CD = tower(), torch.randn(5, 6), torch.randn(7, 6)
    got = scores(made, item_SD, ROWS, target_CD)
    want = [[one_pair(made, item_SD[row], target_D) for target_D in target_CD] for row in ROWS]
    torch.testing.assert_close(got, torch.stack([torch.stack(row) for row in want]))


def test_what_of_a_history_counts_depends_on_the_target() -> None:
    made, item_SD = tower(), torch.randn(5, 6)
    user_BD, given = made(item_SD, Histories.from_lists([np.array([0, 1])]))
    assert not user_BD.any()
    # With a fixed item side, a user who were one vector would score every query alike.
    got = given.block(torch.randn(2, 6), torch.ones(2, 6))
    assert abs(got[0, 0] - got[0, 1]) > 1e-3


def test_extreme_logits_stay_finite_and_pick_one_item() -> None:
    made, item_SD = tower(), 50 * torch.randn(5, 6)
    got = scores(made, item_SD, ROWS, 50 * torch.randn(7, 6))
    assert torch.isfinite(got).all()


def test_only_the_newest_items_count() -> None:
    made, item_SD, target_CD = tower(limit=2), torch.randn(5, 6), torch.randn(3, 6)
    torch.testing.assert_close(
        scores(made, item_SD, ROWS, target_CD), scores(made, item_SD, [row[-2:] for row in ROWS], target_CD)
    )


def test_it_starts_as_the_plain_mean_of_the_history() -> None:
    item_SD, target_CD = torch.randn(4, 6), torch.randn(3, 6)
    got = scores(TargetAttention(dim=6), item_SD, [[0, 3]], target_CD)
    torch.testing.assert_close(got[0], (item_SD[0] + item_SD[3]) / 2 @ target_CD.T)


def test_nobody_having_a_history_and_there_being_no_item_is_defined() -> None:
    made = tower()
    got = scores(made, torch.empty(0, 6), [[], []], torch.randn(3, 6))
    assert got.shape == (2, 3)
    assert torch.isfinite(got).all()
    got.sum().backward()  # every rank must be able to reduce, also on a batch of newcomers
