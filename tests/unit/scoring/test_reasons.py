"""Shapley shares: the axioms that define them, on hand-known and on real models."""

import itertools

import numpy as np
import pytest
import torch
from steps import strangers

from crossweave.alignment import HEADS
from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel, ItemBatch
from crossweave.alignment.sides import Users
from crossweave.alignment.spec import ModelSpec
from crossweave.scoring.reasons import BEHAVIOUR, MOST_PLAYERS, Reasons, credit, shapley_weights


def tiny_model(**changes) -> AlignmentModel:
    torch.manual_seed(3)
    spec = {
        "modalities": {"text": 6, "image": 5},
        "items": 4,
        "dim": 8,
        "fusion": "attention",
        "user_tower": "history_attention",
        "losses": {"sampled_softmax": 1.0},
        "projector_hidden": 8,
        "item_id": True,
        "item_id_dropout": 0.2,
        "modality_dropout": 0.2,
    }
    return AlignmentModel(ModelSpec(**(spec | changes))).eval()


def tiny_items() -> ItemBatch:
    torch.manual_seed(4)
    return ItemBatch(
        torch.arange(4),
        {"text": torch.randn(4, 6), "image": torch.randn(4, 5)},
        torch.tensor([[True, True], [True, False], [False, True], [False, False]]),
        torch.tensor([True, True, False, False]),
    )


def some_users(model) -> Users:
    """Three users: two with a history, one without."""
    history = torch.randn(4, 8, generator=torch.Generator().manual_seed(5))
    rows = [np.array(row, np.int64) for row in ([0, 2, 3], [1], [])]
    with torch.inference_mode():
        return model.users(history, Histories.from_lists(rows), strangers(3))


def full_scores(model, batch, users):
    with torch.inference_mode():
        tokens = model.tokens(batch.vectors, batch.present_SM)
        made = model.assemble(tokens, batch.present_SM, batch.index_S, batch.known_S)
        return model.scores(users, model.targets(made))


@pytest.mark.parametrize(
    ("head", "tower"),
    [*((head, "history_attention") for head in HEADS), ("dot", "target_attention"), ("fm", "target_attention")],
)
def test_shares_add_up_to_the_score_less_that_of_the_empty_coalition(head, tower):
    model, batch = tiny_model(head=head, user_tower=tower), tiny_items()
    with torch.no_grad():
        for parameter in (*model.head.parameters(), *model.user_tower.parameters()):
            parameter.copy_(0.5 * torch.randn_like(parameter))
    users, reasons = some_users(model), Reasons(model, batch)
    user, item = torch.tensor([0, 0, 1, 1, 2, 0]), torch.tensor([0, 1, 0, 3, 2, 2])
    total = reasons.shares(users, user, item).sum(1) + reasons.empty_score(users, user, item)
    np.testing.assert_allclose(total, full_scores(model, batch, users)[user, item].numpy(), atol=1e-4)


def test_a_modality_that_is_not_there_and_an_unknown_id_have_no_share():
    users = Users(torch.ones(1, 8), torch.ones(1, 8))
    shares = Reasons(tiny_model(), tiny_items()).shares(users, torch.zeros(4, dtype=torch.int64), torch.arange(4))
    assert Reasons(tiny_model(), tiny_items()).players == ["text", "image", BEHAVIOUR]
    np.testing.assert_allclose(shares[1, 1], 0, atol=1e-6)  # no image
    np.testing.assert_allclose(shares[2, [0, 2]], 0, atol=1e-6)  # no text, id never trained
    np.testing.assert_allclose(shares[3], 0, atol=1e-6)
    assert (np.abs(shares[0]) > 1e-4).all()


def test_weights_give_the_values_of_a_game_solved_by_hand():
    # Worth: 0 alone for b and c, 1 for any coalition of a with another (the glove game): a 2/3, b 1/6, c 1/6.
    worth = [float(a and (b or c)) for a, b, c in itertools.product((False, True), repeat=3)]
    np.testing.assert_allclose(shapley_weights(3) @ np.array(worth), [2 / 3, 1 / 6, 1 / 6])


def test_equal_players_get_equal_shares_and_shares_are_additive():
    rng = np.random.default_rng(0)
    weights = shapley_weights(4)
    first, second = rng.normal(size=(2, 16))
    np.testing.assert_allclose(weights @ (first + second), weights @ first + weights @ second)
    sizes = np.array([sum(c) for c in itertools.product((False, True), repeat=4)], float)
    np.testing.assert_allclose(weights @ sizes**2, [4.0] * 4)  # 16 for all four, shared equally


def test_more_players_than_exact_sums_allow_are_refused():
    dims = {f"m{i}": 2 for i in range(MOST_PLAYERS)}
    batch = ItemBatch(
        torch.arange(1),
        {m: torch.zeros(1, 2) for m in dims},
        torch.ones(1, MOST_PLAYERS, dtype=torch.bool),
        torch.ones(1, dtype=torch.bool),
    )
    with pytest.raises(ValueError, match="at most"):
        Reasons(tiny_model(modalities=dims, items=1), batch)


def test_what_is_added_to_a_score_goes_to_the_named_player_of_the_rows_that_have_it():
    shares, has = np.array([[1.0], [2.0]], np.float32), np.array([[True], [False]])
    added, first = np.array([0.5, 0.25], np.float32), np.array([True, False])
    players, new_shares, new_has = credit(
        "text", added, ~first, *credit("behaviour", added, first, ["text"], shares, has)
    )
    assert players == ["text", "behaviour"]
    assert new_shares.tolist() == [[1.0, 0.5], [2.25, 0.0]]
    assert new_has.tolist() == [[True, True], [True, False]]
    assert shares.tolist() == [[1.0], [2.0]]
