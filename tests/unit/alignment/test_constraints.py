"""Constraints on tokens and id vectors."""

from dataclasses import replace

import pytest
import torch
from steps import ALIGNMENT, DIM, some_choices

from crossweave.alignment.model import AlignmentModel, ItemBatch
from crossweave.alignment.spec import ModelSpec

ITEMS = 12
SPEC = {
    "modalities": {"a": 5, "b": 4, "c": 3},
    "items": ITEMS,
    "dim": DIM,
    "fusion": "attention",
    "user_tower": "mean",
    "losses": {"sampled_softmax": 1.0},
    "projector_hidden": 16,
    "item_id": True,
    "item_id_dropout": 0.0,
    "modality_dropout": 0.0,
}


@pytest.mark.parametrize("norm", ["unit", "layer", "none"])
def test_tokens_are_normed_as_asked_and_alignment_sees_directions_only(norm):
    losses = {"sampled_softmax": 1.0, **dict.fromkeys(ALIGNMENT, 0.1)}
    torch.manual_seed(4)
    model = AlignmentModel(ModelSpec(**{**SPEC, "token_norm": norm, "losses": losses}))
    present = torch.rand(ITEMS, 3) < 0.7
    vectors = {name: torch.randn(ITEMS, width) for name, width in SPEC["modalities"].items()}
    items = ItemBatch(torch.arange(ITEMS), vectors, present, present.any(dim=1))
    made, content = model.items(items)
    length = made.tokens_SMD.norm(dim=2)[items.present_SM]
    expected = {"unit": torch.ones(1), "layer": torch.tensor([DIM**0.5])}
    if norm in expected:
        torch.testing.assert_close(length, expected[norm].expand(len(length)), rtol=1e-3, atol=0.0)
    else:
        assert length.std() > 0.01
    assert (made.tokens_SMD[~items.present_SM] == 0).all()
    given, _ = some_choices()
    all_items = torch.arange(ITEMS)
    rest = content, all_items, all_items, given
    _, parts = model.loss(made, *rest)
    _, longer = model.loss(replace(made, tokens_SMD=3 * made.tokens_SMD), *rest)
    if norm != "unit":
        torch.testing.assert_close([longer[name] for name in ALIGNMENT], [parts[name] for name in ALIGNMENT])


def test_id_vectors_are_cut_to_the_ball_and_shorter_ones_and_biases_left_alone():
    model = AlignmentModel(ModelSpec(**{**SPEC, "max_norm": 0.5, "users": 3, "user_id": True}))
    users = model.user_parts["id"].vectors
    with torch.no_grad():
        users.weight[1] = 4.0
        model.id_target.weight[0] = 2.0
        model.id_history.weight[1] = -3.0
        model.id_target.weight[2] = 0.01
        model.id_bias.weight[0] = 7.0
    direction = torch.nn.functional.normalize(model.id_target.weight[0].detach().clone(), dim=0)
    model.constrain()
    for ids in (model.id_target, model.id_history, users):
        assert ids.weight.norm(dim=1).max().item() <= 0.5 + 1e-6
    torch.testing.assert_close(model.id_target.weight[0], 0.5 * direction)
    assert model.id_target.weight[2].tolist() == pytest.approx([0.01] * DIM)
    assert model.id_bias.weight[0].item() == 7.0


def test_without_a_max_norm_nothing_is_cut():
    model = AlignmentModel(ModelSpec(**SPEC))
    with torch.no_grad():
        model.id_target.weight[0] = 2.0
    model.constrain()
    assert model.id_target.weight[0].tolist() == [2.0] * DIM
