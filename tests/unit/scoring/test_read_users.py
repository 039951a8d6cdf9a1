"""Users against the whole index: the kernel and what it adds give the model's own scores."""

import numpy as np
import pytest
import torch
from steps import strangers

from crossweave.alignment import HEADS
from crossweave.alignment.blend import together
from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel, ItemVectors
from crossweave.alignment.spec import ModelSpec
from crossweave.scoring.topk import top_k
from crossweave.scoring.users import beyond_product, read_users

ITEMS = 30
PRODUCTS = [("dot", "mean"), ("cosine", "gru"), ("fm", "mean")]
OTHERS = [("mlp", "mean"), ("dot", "target_attention"), ("cosine", "target_attention"), ("fm", "target_attention")]


def model_of(head: str, tower: str) -> AlignmentModel:
    torch.manual_seed(2)
    spec = ModelSpec({"text": 4}, ITEMS, 8, "attention", tower, {"bpr": 1.0}, 8, False, 0.0, 0.0, head=head)
    model = AlignmentModel(spec).eval()
    with torch.no_grad():
        for parameter in (*model.head.parameters(), *model.user_tower.parameters()):
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(("head", "tower"), PRODUCTS + OTHERS)
@torch.inference_mode()
def test_the_kernel_ranks_by_the_scores_that_the_model_gives(head, tower):
    model = model_of(head, tower)
    made = ItemVectors(None, None, torch.randn(ITEMS, 8), torch.randn(ITEMS), torch.randn(ITEMS, 8))
    rows = [np.array(row, np.int64) for row in ([3, 9, 21], [], [0])]
    targets, histories = model.targets(made), Histories.from_lists(rows)
    users, other = read_users(model, made.history_SD, histories, strangers(3)), torch.randn(3, ITEMS)
    rest = beyond_product(model, users, targets)
    assert (rest is None) == ((head, tower) in PRODUCTS)
    best = top_k(
        users.vector_BE,
        targets.item_SE,
        targets.bias_S,
        5,
        allowed_N=torch.ones(ITEMS, dtype=torch.bool),
        masked=rows,
        block_items=7,
        addition=together(rest, None, lambda scores, start, stop: scores.add_(other[:, start:stop])),
    )
    want = model.scores(model.users(made.history_SD, histories, strangers(3)), targets) + other
    for user, row in enumerate(rows):
        want[user, row] = -torch.inf
    values, places = want.topk(5)
    np.testing.assert_array_equal(best.items_UK, places.numpy())
    np.testing.assert_allclose(best.scores_UK, values.numpy(), rtol=1e-4, atol=1e-5)


def test_nothing_to_add_is_no_addition():
    assert together(None, None) is None


def test_every_head_is_one_or_the_other():
    assert {head for head, _ in PRODUCTS + OTHERS} == set(HEADS)
