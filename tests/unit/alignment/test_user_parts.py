"""Attributes and ids: what they add to a user, what they leave alone, and what new users get from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crossweave.alignment import USER_TOWERS
from crossweave.alignment.histories import Histories
from crossweave.alignment.losses.base import Choices
from crossweave.alignment.model import AlignmentModel, ItemBatch, ItemVectors
from crossweave.alignment.sides import Targets
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.user_parts import MISSING, UNKNOWN, UserAttributes, UserBatch, UserIds

DIM, ITEMS, USERS = 8, 24, 40
PLAIN = ModelSpec({"a": 6}, ITEMS, DIM, "concat", "mean", {"sampled_softmax": 1.0}, 16, True, 0.0, 0.0)
BOTH = replace(PLAIN, users=USERS, user_attributes={"group": 4, "colour": 3}, user_id=True)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def people(index: list[int], codes: list[list[int]]) -> UserBatch:
    return UserBatch.from_arrays(np.array(index, np.int32), np.array(codes, np.int32))


def histories(rows: list[list[int]]) -> Histories:
    return Histories.from_lists([np.array(row, np.int64) for row in rows])


# ── what they add ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_attributes_are_a_sum_of_one_vector_a_value() -> None:
    part = UserAttributes([4, 3], DIM, 0.0)
    torch.nn.init.normal_(part.vectors.weight)
    added = part(people([0, 1], [[3, 0], [1, 2]]))
    table = part.vectors.weight
    torch.testing.assert_close(added, torch.stack([table[3] + table[4 + 0], table[1] + table[4 + 2]]))


def test_ids_add_the_vector_of_a_known_user_and_nothing_for_an_unknown_one() -> None:
    part = UserIds(5, DIM, 0.0)
    torch.nn.init.normal_(part.vectors.weight)
    added = part(people([4, UNKNOWN, 0], [[], [], []]))
    torch.testing.assert_close(added, torch.stack([part.vectors.weight[4], torch.zeros(DIM), part.vectors.weight[0]]))


def test_gradients_reach_the_values_and_ids_of_the_batch_and_no_others() -> None:
    model = AlignmentModel(BOTH)
    users = model.users(torch.randn(3, DIM), histories([[0, 1], []]), people([7, UNKNOWN], [[2, 0], [3, 1]]))
    users.own_BD.sum().backward()
    touched = {name: part.vectors.weight.grad.abs().sum(1).nonzero()[:, 0] for name, part in model.user_parts.items()}
    assert touched["attributes"].tolist() == [2, 3, 4 + 0, 4 + 1]
    assert touched["id"].tolist() == [7]


def test_dropout_hides_that_share_in_training_and_nothing_after_it() -> None:
    who = UserBatch(torch.arange(2000), torch.full((2000, 1), 2))
    attributes, ids = UserAttributes([3], 1, 0.25), UserIds(2000, 1, 0.75)
    torch.nn.init.ones_(ids.vectors.weight)
    with torch.no_grad():
        attributes.vectors.weight.copy_(torch.tensor([[5.0], [0.0], [1.0]]))  # missing, another, the value
    shown = [(part(who) == 1).float().mean().item() for part in (attributes, ids)]
    assert shown == [pytest.approx(0.75, abs=0.04), pytest.approx(0.25, abs=0.04)]
    assert set(attributes(who)[:, 0].tolist()) == {1.0, 5.0}  # a hidden attribute is a missing one
    assert all((part.eval()(who) == 1).all() for part in (attributes, ids))


# ── what they leave alone ──────────────────────────────────────────────────────────────────────────────────────────


def test_without_attributes_and_ids_the_model_has_the_parameters_it_always_had() -> None:
    model = AlignmentModel(PLAIN)
    assert not [name for name, _ in model.named_parameters() if name.startswith("user_parts")]
    assert not model.user_parts.state_dict()


@pytest.mark.parametrize("tower", USER_TOWERS)
def test_before_training_attributes_and_ids_change_nothing(tower: str) -> None:
    models = []
    for spec in (PLAIN, BOTH):
        torch.manual_seed(5)
        models.append(AlignmentModel(replace(spec, user_tower=tower)).eval())
    items, some = torch.randn(4, DIM), histories([[0, 1], [3], []])
    who = people([0, 1, UNKNOWN], [[2, 1], [0, 0], [1, 2]])
    targets = Targets(torch.randn(6, DIM), torch.randn(6), torch.randn(6, DIM))
    plain, both = (model.scores(model.users(items, some, who), targets) for model in models)
    assert torch.equal(plain, both)
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name


# ── what new users get from them ───────────────────────────────────────────────────────────────────────────────────


def train(spec: ModelSpec, steps: int = 150) -> tuple[AlignmentModel, ItemVectors]:
    """Users of group 2 take even items, those of group 3 odd ones; returns the model and its items.

    One user in five is shown as a newcomer, so that attributes are all there is to go by.
    """
    rng = np.random.default_rng(4)
    model = AlignmentModel(spec)
    everything = torch.ones(ITEMS, 1, dtype=torch.bool)
    items = ItemBatch(torch.arange(ITEMS), {"a": torch.randn(ITEMS, 6)}, everything, everything[:, 0])
    group_U = np.arange(USERS) % 2
    likes = [np.flatnonzero(np.arange(ITEMS) % 2 == group) for group in group_U]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        orders = [rng.permutation(row) for row in likes]
        new = rng.random(USERS) < 0.2
        positives = torch.zeros(USERS, ITEMS)
        for user, order in enumerate(orders):
            positives[user, order[4:]] = 1.0
        made, content = model.items(items)
        shown = [order[: 0 if is_new else 4] for order, is_new in zip(orders, new, strict=True)]
        codes = np.stack([2 + group_U, np.full(USERS, 2)], axis=1)
        who = UserBatch.from_arrays(np.where(new, UNKNOWN, np.arange(USERS)), codes)
        users = model.users(made.history_SD, Histories.from_lists(shown), who)
        scores = model.scores(users, model.targets(made))
        taken = positives.nonzero(as_tuple=True)
        choices = Choices(
            scores, positives, torch.zeros(ITEMS), taken, torch.zeros(len(taken[0])), users.own_BD, made.target_SD
        )
        loss, _ = model.loss(made, content, items.index_S, torch.arange(ITEMS), choices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        made, _ = model.items(items)
    return model, made


def best(trained: tuple[AlignmentModel, ItemVectors], who: UserBatch, rows: list[list[int]]) -> list[list[int]]:
    """Return each user's ten best items."""
    model, made = trained
    with torch.no_grad():
        scores = model.scores(model.users(made.history_SD, histories(rows), who), model.targets(made))
    return scores.topk(10, dim=1).indices.tolist()


@pytest.mark.parametrize("tower", ["mean", "id"])
def test_new_users_of_two_groups_get_the_items_of_their_group(tower: str) -> None:
    trained = train(replace(BOTH, user_tower=tower, user_attribute_dropout=0.1, user_id_dropout=0.2))
    even, odd = best(trained, people([UNKNOWN] * 2, [[2, 2], [3, 2]]), [[], []])
    assert all(item % 2 == 0 for item in even)
    assert all(item % 2 == 1 for item in odd)


def test_without_attributes_all_new_users_are_the_same() -> None:
    trained = train(replace(PLAIN, user_tower="mean"), steps=5)
    one, other = best(trained, people([UNKNOWN] * 2, [[2, 2], [3, 2]]), [[], []])
    assert one == other


def test_a_value_that_no_trained_user_has_says_nothing() -> None:
    model, _ = train(replace(BOTH, user_attribute_dropout=0.0), steps=5)
    vectors = model.user_parts["attributes"].vectors.weight.detach()  # type: ignore[union-attr]
    used = vectors.abs().sum(dim=1) > 0
    assert used.tolist() == [False, False, True, True, False, False, True]
    assert MISSING == 0


def test_the_id_tower_tells_known_users_apart_without_their_histories() -> None:
    trained = train(replace(BOTH, user_attributes={}, user_tower="id"))
    lists = best(trained, people([0, 1], [[], []]), [[], []])
    assert [{item % 2 for item in row} for row in lists] == [{0}, {1}]
