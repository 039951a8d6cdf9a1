from __future__ import annotations

import numpy as np
import torch

from crossweave.alignment.histories import Histories
from crossweave.alignment.towers.history_attention import HistoryAttention


def tower() -> HistoryAttention:
    torch.manual_seed(0)
    made = HistoryAttention(dim=6, heads=2).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # it starts as the plain mean: attention must be in play here
            parameter.normal_(std=0.7)
        made.newcomer_D.copy_(torch.arange(6.0))
    return made


def pooled_one_by_one(made: HistoryAttention, item_LD: torch.Tensor) -> torch.Tensor:
    """One user's vector by the formula, with a softmax over exactly this user's items."""
    weights_LH = made.score(item_LD).softmax(dim=0)
    heads = [weights_LH[:, h] @ item_LD[:, 3 * h : 3 * h + 3] for h in range(2)]
    user_D = torch.cat(heads)
    return user_D + made.mlp(user_D)


def test_a_user_is_the_softmax_pooling_of_exactly_their_own_items() -> None:
    made, item_SD = tower(), torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    rows = [[3, 1, 4], [0], [2, 0, 1, 3, 4]]
    users_BD = made(item_SD, Histories.from_lists([np.array(row) for row in rows]))
    for user_D, row in zip(users_BD, rows, strict=True):
        torch.testing.assert_close(user_D, pooled_one_by_one(made, item_SD[row]))


def test_it_starts_as_the_plain_mean_of_the_history() -> None:
    item_SD = torch.randn(4, 6)
    users_BD = HistoryAttention(dim=6, heads=2).eval()(item_SD, Histories.from_lists([np.array([0, 3])]))
    torch.testing.assert_close(users_BD[0], (item_SD[0] + item_SD[3]) / 2)


def test_a_user_without_history_is_the_learned_newcomer() -> None:
    made, item_SD = tower(), torch.randn(3, 6)
    empty = np.array([], np.int64)
    users_BD = made(item_SD, Histories.from_lists([np.array([1]), empty, np.array([2]), empty]))
    newcomer_D = made.newcomer_D + made.mlp(made.newcomer_D)
    torch.testing.assert_close(users_BD[1], newcomer_D)
    torch.testing.assert_close(users_BD[3], newcomer_D)
    assert not torch.allclose(users_BD[0], newcomer_D)


def test_nobody_having_a_history_and_there_being_no_item_is_defined() -> None:
    made = tower()
    users_BD = made(torch.empty(0, 6), Histories.from_lists([np.array([], np.int64)] * 2))
    assert users_BD.shape == (2, 6)
    assert torch.isfinite(users_BD).all()


def test_gradients_reach_the_items_of_a_history_and_no_others() -> None:
    made, item_SD = tower(), torch.randn(4, 6, requires_grad=True)
    made(item_SD, Histories.from_lists([np.array([0, 2])])).sum().backward()
    assert item_SD.grad is not None
    assert item_SD.grad.abs().sum(dim=1).ne(0).tolist() == [True, False, True, False]
