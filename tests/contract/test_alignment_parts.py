"""Every fusion, loss and user tower of the registries keeps its contract."""

import numpy as np
import pytest
import torch

from crossweave.alignment import FUSIONS, LOSSES, USER_TOWERS, build, find
from crossweave.alignment.histories import Histories
from crossweave.alignment.losses.base import AlignmentLoss
from crossweave.errors import SettingsError

DIM, MODALITIES = 8, 3


def histories(rows):
    return Histories.from_lists([np.array(row, np.int64) for row in rows])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(11)


def tokens(rows=6):
    value = torch.nn.functional.normalize(torch.randn(rows, MODALITIES, DIM), dim=2)
    return value.requires_grad_(), torch.ones(rows, MODALITIES, dtype=torch.bool)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_gives_one_vector_an_item_and_every_token_gets_a_gradient(name):
    fusion = build(FUSIONS, "fusion", name, DIM, MODALITIES)
    token, present = tokens()
    fused = fusion(token, present)
    assert fused.shape == (6, DIM)
    fused.pow(2).sum().backward()
    assert (token.grad.abs().sum(dim=2) > 0).all()


@pytest.mark.parametrize("name", FUSIONS)
def test_what_stands_in_a_missing_token_changes_nothing(name):
    fusion = build(FUSIONS, "fusion", name, DIM, MODALITIES)
    token, present = tokens()
    present[2, 1] = False
    before = fusion(token, present)
    changed = token.detach().clone()
    changed[2, 1] = 99.0
    torch.testing.assert_close(fusion(changed * present[..., None], present), before)
    torch.testing.assert_close(fusion(changed, present), before)


@pytest.mark.parametrize("name", FUSIONS)
def test_an_item_without_any_modality_gets_a_finite_vector(name):
    fusion = build(FUSIONS, "fusion", name, DIM, MODALITIES)
    fused = fusion(torch.zeros(2, MODALITIES, DIM), torch.zeros(2, MODALITIES, dtype=torch.bool))
    assert torch.isfinite(fused).all()
    torch.testing.assert_close(fused[0], fused[1])


ALIGNMENT = [name for name in LOSSES if issubclass(find(LOSSES, "loss", name), AlignmentLoss)]
BEHAVIOUR = [name for name in LOSSES if name not in ALIGNMENT]


@pytest.mark.parametrize("name", ALIGNMENT)
def test_an_alignment_loss_is_lower_for_aligned_tokens_and_reaches_every_modality(name):
    loss = build(LOSSES, "loss", name)
    token, present = tokens()
    apart = loss(token, present)
    apart.backward()
    assert apart.shape == ()
    assert (token.grad.abs().sum(dim=(0, 2)) > 0).all()
    same = token.detach()[:, :1].expand(-1, MODALITIES, -1)
    assert loss(same, present) < apart


@pytest.mark.parametrize("name", ALIGNMENT)
def test_a_missing_token_changes_no_alignment_loss_and_nothing_shared_is_zero(name):
    loss = build(LOSSES, "loss", name)
    token, present = tokens()
    present[3, 0] = False
    changed = token.detach().clone()
    changed[3, 0] = 7.0
    torch.testing.assert_close(loss(changed, present), loss(token, present))
    alone = torch.zeros_like(present)
    alone[:, 0] = True
    nothing = loss(token, alone)
    assert nothing.item() == 0.0
    nothing.backward()  # every rank must be able to reduce, also on a batch without pairs


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_a_behaviour_loss_falls_when_positives_rise(name):
    loss = build(LOSSES, "loss", name)
    scores, positives = torch.randn(4, 9, requires_grad=True), torch.zeros(4, 9)
    positives[torch.arange(4), torch.arange(4)] = 1.0
    before = loss(scores, positives, torch.zeros(9))
    before.backward()
    assert before.shape == ()
    assert (scores.grad[positives == 1] < 0).all()
    assert loss(scores + positives, positives, torch.zeros(9)) < before


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_a_user_without_targets_adds_nothing_to_a_behaviour_loss(name):
    loss = build(LOSSES, "loss", name)
    scores = torch.randn(2, 5, requires_grad=True)
    positives = torch.zeros(2, 5)
    positives[0, 1] = 1.0
    loss(scores, positives, torch.zeros(5)).backward()
    assert (scores.grad[1] == 0).all()


@pytest.mark.parametrize("name", USER_TOWERS)
def test_a_user_tower_gives_one_vector_a_user_and_every_item_of_a_history_gets_a_gradient(name):
    tower = build(USER_TOWERS, "user tower", name, DIM).eval()
    items = torch.randn(5, DIM, requires_grad=True)
    users = tower(items, histories([[0, 1, 2], [4], []]))
    assert users.shape == (3, DIM)
    assert torch.isfinite(users).all()
    users.pow(2).sum().backward()
    assert (items.grad.abs().sum(1) > 0).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("name", USER_TOWERS)
def test_a_user_does_not_depend_on_the_others_of_the_batch(name):
    tower = build(USER_TOWERS, "user tower", name, DIM).eval()
    items = torch.randn(5, DIM)
    together = tower(items, histories([[0, 1, 2], [4, 3], []]))
    alone = [tower(items, histories([row]))[0] for row in ([0, 1, 2], [4, 3], [])]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize(("registry", "what"), [(FUSIONS, "fusion"), (LOSSES, "loss"), (USER_TOWERS, "user tower")])
def test_an_unknown_name_lists_the_valid_ones(registry, what):
    with pytest.raises(SettingsError, match=next(iter(registry))):
        build(registry, what, "nonsense")


def test_unfit_settings_of_a_part_are_a_settings_error():
    with pytest.raises(SettingsError, match="attention"):
        build(FUSIONS, "fusion", "attention", DIM, MODALITIES, headz=3)
