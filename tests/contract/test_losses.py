"""Every loss of the registry keeps its contract, and each has the values that its formula gives by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from steps import ALIGNMENT, BEHAVIOUR, DIM, MODALITIES, RANKING, align, choices, some_choices, tokens

from crossweave.alignment import LOSSES, build


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(11)


@pytest.mark.parametrize("name", ALIGNMENT)
def test_an_alignment_loss_is_lower_for_aligned_tokens_and_reaches_every_modality(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES)
    token, present = tokens()
    apart = align(loss, token, present)
    apart.backward()
    assert apart.shape == ()
    assert (token.grad.abs().sum(dim=(0, 2)) > 0).all()
    same = token.detach()[:, :1].expand(-1, MODALITIES, -1)
    assert not loss.falls or align(loss, same, present) < apart


@pytest.mark.parametrize("name", ALIGNMENT)
def test_a_missing_token_changes_no_alignment_loss_and_nothing_shared_is_zero(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES)
    token, present = tokens()
    present[3, 0] = False
    changed = token.detach().clone()
    changed[3, 0] = 7.0
    torch.testing.assert_close(align(loss, changed, present), align(loss, token, present))
    alone = torch.zeros_like(present)
    alone[:, 0] = True
    nothing = align(loss, token, alone)
    assert nothing.item() == 0.0
    nothing.backward()  # every rank must be able to reduce, also on a batch without pairs


TURNED = "adversarial"  # its gradient is not that of its value, which is its point


@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in ALIGNMENT if name != TURNED), ("infonce", {"all_ranks": True})]
)
def test_the_gradient_of_an_alignment_loss_is_that_of_its_value(name, settings):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES, **settings).double()
    token, present = tokens()
    present[3, 0] = present[4, 1] = False

    leaf = token.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: align(loss, given, present), leaf)


class Others:
    """A rank that meets other rows, as of a second rank behind it."""

    size = 2

    def __init__(self, *rows):
        self.rows = list(rows)

    def gather(self, own):
        return torch.cat([own, self.rows.pop(0).to(own.dtype)]), 0


def test_infonce_takes_its_negatives_from_all_ranks_and_never_from_the_same_item():
    loss = build(LOSSES, "loss", "infonce", 2, 2, temperature=1.0, all_ranks=True)
    mine, theirs = torch.eye(2)[[0, 1]][:, None].expand(2, 2, 2), torch.eye(2)[[0, 0]][:, None].expand(2, 2, 2)
    both, index = torch.ones(2, 2, dtype=torch.bool), torch.tensor([5, 6])
    facts = torch.tensor([[5, 1, 1], [7, 1, 1]])  # item 5 once more, a new item 7 with the token of item 5
    loss.peers = Others(theirs, facts)
    # Anchors of this rank: 5 against itself, 6 and 7; 6 against itself and the three others. Over 4 anchors, times 2.
    first, second = np.log(np.e + 1 + np.e) - 1, np.log(np.e + 3) - 1
    assert loss(mine, both, index).item() == pytest.approx(2 * (first + second) / 4, rel=1e-6)


def test_infonce_without_a_shared_pair_on_this_rank_still_serves_the_others():
    loss = build(LOSSES, "loss", "infonce", DIM, 2, all_ranks=True)
    mine, theirs = torch.randn(2, 2, DIM, requires_grad=True), torch.randn(3, 2, DIM)
    loss.peers = Others(theirs, torch.tensor([[7, 1, 1], [8, 1, 1], [9, 1, 1]]))
    value = loss(mine, torch.tensor([[True, False], [False, True]]), torch.tensor([1, 2]))
    assert value.item() == 0.0
    value.backward()  # through the gathered rows, where the other rank waits
    assert mine.grad is not None


@pytest.mark.parametrize("name", RANKING)
def test_a_ranking_loss_falls_when_positives_rise(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES)
    scores, positives = torch.randn(4, 9, requires_grad=True), torch.zeros(4, 9)
    positives[torch.arange(4), torch.arange(4)] = 1.0
    before = loss(choices(scores, positives))
    before.backward()
    assert before.shape == ()
    assert (scores.grad[positives == 1] < 0).all()
    assert loss(choices(scores + positives, positives)) < before


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_the_gradient_of_a_behaviour_loss_is_that_of_its_value(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES).double()
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter)
    given, leaves = some_choices(dtype=torch.float64)

    def value(scores, users, items):
        return loss(replace(given, scores_BC=scores, user_BD=users, item_CD=items))

    assert torch.autograd.gradcheck(value, leaves)


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_a_user_without_targets_adds_nothing_to_a_behaviour_loss(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES)
    scores = torch.randn(2, 5, requires_grad=True)
    positives = torch.zeros(2, 5)
    positives[0, 1] = 1.0
    loss(choices(scores, positives)).backward()
    assert (scores.grad[1] == 0).all()
    nothing = loss(choices(scores, torch.zeros(2, 5)))
    assert nothing.item() == 0.0
    nothing.backward()  # every rank must be able to reduce


@pytest.mark.parametrize("name", RANKING)
def test_a_positive_that_counts_more_pulls_more_and_none_passes_for_a_negative(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES)
    scores = torch.zeros(1, 6, requires_grad=True)
    positives = torch.tensor([[0.5, 1.5, 0.0, 0.0, 0.0, 0.0]])
    loss(choices(scores, positives)).backward()
    pull = -scores.grad[0, :2]
    # The softmax takes from every candidate alike: σ = 1/6 each of a pull of 2 in sum.
    alike = 2.0 / 6 if name == "sampled_softmax" else 0.0
    scale = 2.0**0.5 * 2.0**0.5 if name == "sampled_softmax" else 1.0
    ratio = (pull[1] * scale + alike) / (pull[0] * scale + alike)
    assert ratio.item() == pytest.approx(3.0, rel=1e-4)


def test_an_adversary_drives_the_modalities_together():
    loss = build(LOSSES, "loss", "adversarial", DIM, MODALITIES)
    centre = 2 * torch.eye(DIM)[:MODALITIES]
    free = (centre + 0.3 * torch.randn(40, MODALITIES, DIM)).requires_grad_()
    present = torch.ones(40, MODALITIES, dtype=torch.bool)

    def spread():
        return torch.nn.functional.normalize(free, dim=2).mean(0).std(0).sum().item()

    before = spread()
    optimizer = torch.optim.Adam([{"params": [free], "lr": 0.02}, {"params": loss.parameters(), "lr": 0.02}])
    for _ in range(300):
        optimizer.zero_grad()
        align(loss, torch.nn.functional.normalize(free, dim=2), present).backward()
        optimizer.step()
    assert spread() < 0.5 * before


def test_reconstruction_learns_what_one_modality_says_of_another():
    loss = build(LOSSES, "loss", "reconstruction", DIM, 2)
    one = torch.nn.functional.normalize(torch.randn(60, DIM), dim=1)
    turn = torch.linalg.qr(torch.randn(DIM, DIM))[0]
    tokens, present = torch.stack([one, one @ turn], dim=1), torch.ones(60, 2, dtype=torch.bool)
    before = align(loss, tokens, present).item()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        align(loss, tokens, present).backward()
        optimizer.step()
    assert align(loss, tokens, present).item() < 0.3 * before


def test_hand_computed_values_of_the_simple_losses():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    both = torch.ones(2, 2, dtype=torch.bool)
    linear = build(LOSSES, "loss", "linear", 2, 2)
    assert align(linear, tokens, both).item() == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    coral = build(LOSSES, "loss", "coral", 2, 2)
    # Means (1, 0) and (½, ½); covariances 0 and ½ [[1, −1], [−1, 1]].
    assert align(coral, tokens, both).item() == pytest.approx(0.25 * 4 * 0.25 + 0.5)
    scores, taken = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    bpr = build(LOSSES, "loss", "bpr", 2, 2)
    expected = np.log1p(np.exp(-2.0)) / 2 + np.log1p(np.exp(-1.0)) / 2
    assert bpr(choices(scores, taken)).item() == pytest.approx(expected, rel=1e-6)
    # The third candidate was drawn with probability ½, so it stands for two.
    weighted = np.log1p(np.exp(-2.0)) / 3 + 2 * np.log1p(np.exp(-1.0)) / 3
    assert bpr(choices(scores, taken, torch.tensor([0.0, 0.0, np.log(0.5)]))).item() == pytest.approx(
        weighted, rel=1e-6
    )
    click = build(LOSSES, "loss", "click", 2, 2)
    expected = np.log1p(np.exp(-2.0)) + (np.log(2.0) + np.log1p(np.exp(1.0))) / 2
    assert click(choices(scores, taken)).item() == pytest.approx(expected, rel=1e-6)


def test_hand_computed_ratings():
    rating = build(LOSSES, "loss", "rating", 2, 2)
    scores, taken = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.eye(2)
    users, items = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[4.0, 0.0], [1.0, 1.0]])
    given = choices(scores, taken, rating=torch.tensor([1.0, -2.0]), users=users, items=items)
    assert rating(given).item() == pytest.approx((1 + 4) / 2)  # it starts by saying the mean of everything
    with torch.no_grad():
        rating.scale.fill_(0.5)
        rating.user_level.weight.copy_(torch.tensor([[0.1, 0.2]]))
        rating.item_level.weight.copy_(torch.tensor([[0.25, -1.0]]))
        rating.user_level.bias.fill_(0.3)
    # ½·2 + 0.1 + 1 + 0.3 against 1; ½·3 + 0.4 − 0.75 + 0.3 against −2
    assert rating.predict(given).tolist() == pytest.approx([2.4, 1.45])
    assert rating.of_pairs(torch.tensor([2.0, 3.0]), users, items).tolist() == pytest.approx([2.4, 1.45])
    assert rating(given).item() == pytest.approx((1.4**2 + 3.45**2) / 2)


def test_without_a_weight_column_ratings_ask_for_nothing():
    rating = build(LOSSES, "loss", "rating", DIM, MODALITIES)
    given, leaves = some_choices()
    loss = rating(replace(given, rating_T=torch.zeros_like(given.rating_T)))
    loss.backward()
    assert loss.item() == 0.0
    assert all((leaf.grad == 0).all() for leaf in leaves)
    assert all((parameter.grad == 0).all() for parameter in rating.parameters())


def test_ratings_are_learned_of_pairs_never_seen():
    rating = build(LOSSES, "loss", "rating", DIM, MODALITIES)
    users, items = torch.randn(30, DIM), torch.randn(40, DIM)
    scores = users @ items.T
    truth = 0.3 * scores + users[:, :1] - 0.5 * items[:, 1]
    truth = (truth - truth.mean()) / truth.std()
    shown = (torch.rand(30, 40) < 0.3).float()
    optimizer = torch.optim.Adam(rating.parameters(), lr=0.05)
    given = choices(scores, shown, rating=truth[shown.nonzero(as_tuple=True)], users=users, items=items)
    for _ in range(300):
        optimizer.zero_grad()
        rating(given).backward()
        optimizer.step()
    hidden = choices(scores, 1 - shown, users=users, items=items)
    error = (rating.predict(hidden) - truth[hidden.taken]).square().mean()
    assert error < 0.02  # saying the mean would cost 1
