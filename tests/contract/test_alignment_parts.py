"""Every fusion, loss and user tower of the registries keeps its contract."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crossweave.alignment import FUSIONS, LOSSES, USER_TOWERS, build, find
from crossweave.alignment.histories import Histories
from crossweave.alignment.losses.base import AlignmentLoss, Choices
from crossweave.alignment.model import AlignmentModel, ItemBatch
from crossweave.alignment.spec import ModelSpec
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
RANKING = [name for name in BEHAVIOUR if find(LOSSES, "loss", name).ranks]


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


@pytest.mark.parametrize("name", ALIGNMENT)
def test_an_alignment_loss_is_lower_for_aligned_tokens_and_reaches_every_modality(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES)
    token, present = tokens()
    apart = loss(token, present)
    apart.backward()
    assert apart.shape == ()
    assert (token.grad.abs().sum(dim=(0, 2)) > 0).all()
    same = token.detach()[:, :1].expand(-1, MODALITIES, -1)
    assert not loss.falls or loss(same, present) < apart


@pytest.mark.parametrize("name", ALIGNMENT)
def test_a_missing_token_changes_no_alignment_loss_and_nothing_shared_is_zero(name):
    loss = build(LOSSES, "loss", name, DIM, MODALITIES)
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


# Each part learns what it is for ------------------------------------------------------------------------------------

ITEMS, SHOWN, USERS = 24, 16, 20


def checkerboard():
    """Even users take even items. What an item is, two of its three modalities say, among noise; one may be missing."""
    rng = np.random.default_rng(5)
    parity = np.arange(ITEMS) % 2
    vectors = {name: rng.normal(0.0, 0.3, (ITEMS, 6)).astype(np.float32) for name in ("a", "b", "noise")}
    for name in ("a", "b"):
        vectors[name][:, 0] += 2.0 * parity - 1.0
    present = np.ones((ITEMS, 3), bool)
    present[rng.random(ITEMS) < 0.3, 0] = False
    tensors = {name: torch.from_numpy(value) for name, value in vectors.items()}
    everything = torch.ones(ITEMS, dtype=torch.bool)
    return ItemBatch(torch.arange(ITEMS), tensors, torch.from_numpy(present), everything), parity


def learn(steps=120, **parts):
    """Train a model on the first items of the checkerboard; returns how often a user prefers the right new item."""
    spec = {
        "modalities": dict.fromkeys(("a", "b", "noise"), 6),
        "items": ITEMS,
        "dim": DIM,
        "fusion": "attention",
        "user_tower": "mean",
        "losses": {"sampled_softmax": 1.0},
        "projector_hidden": 16,
        "item_id": False,
        "item_id_dropout": 0.0,
        "modality_dropout": 0.2,
    }
    model, (items, parity) = AlignmentModel(ModelSpec(**{**spec, **parts})), checkerboard()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    rng = np.random.default_rng(6)
    candidates = torch.arange(SHOWN)
    likes = [np.flatnonzero(parity[:SHOWN] == user % 2) for user in range(USERS)]
    for _ in range(steps):
        orders = [rng.permutation(row) for row in likes]
        positives = torch.zeros(USERS, SHOWN)
        for user, order in enumerate(orders):
            positives[user, order[4:]] = 1.0
        made, _ = model.items(items)
        users = model.users(made.history_SD, histories([order[:4] for order in orders]))
        scores = users @ made.target_SD[candidates].T + made.bias_S[candidates]
        loss, _ = model.loss(made, candidates, choices(scores, positives))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        made, _ = model.items(items)
        users = model.users(made.history_SD, histories([row[:4] for row in likes]))
        new = users @ made.target_SD[SHOWN:].T + made.bias_S[SHOWN:]
    own = torch.from_numpy(parity[SHOWN:][None, :] == (np.arange(USERS) % 2)[:, None])
    right = [(new[u][own[u]][:, None] > new[u][~own[u]][None, :]).float().mean() for u in range(USERS)]
    return torch.stack(right).mean().item()


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_learns_the_checkerboard_and_carries_it_to_new_items(name):
    assert learn(fusion=name) > 0.95


@pytest.mark.parametrize("name", USER_TOWERS)
def test_a_user_tower_learns_the_checkerboard(name):
    assert learn(user_tower=name) > 0.95


@pytest.mark.parametrize("name", RANKING)
def test_a_ranking_loss_alone_learns_the_checkerboard(name):
    assert learn(losses={name: 1.0}) > 0.95


@pytest.mark.parametrize("name", sorted({*LOSSES} - {*RANKING}))
def test_a_loss_beside_ranking_does_not_get_in_the_way_of_the_checkerboard(name):
    right = []
    for seed in range(3):  # 16 items are few: one start in ten leaves a new item on the wrong side
        torch.manual_seed(seed)
        right.append(learn(losses={"sampled_softmax": 1.0, name: 0.05}))
    assert np.mean(right) > 0.95


def test_without_training_the_checkerboard_is_not_known():
    assert learn(steps=0) < 0.9


@pytest.mark.parametrize("name", ["gru", "lstm", "causal_transformer"])
def test_a_sequential_tower_reads_the_order_and_only_the_newest_items(name):
    tower = build(USER_TOWERS, "user tower", name, DIM, limit=2).eval()
    torch.nn.init.normal_(tower.out.weight)
    items = torch.randn(5, DIM)
    first, turned, longer, empty = tower(items, histories([[0, 1], [1, 0], [4, 3, 0, 1], []]))
    assert not torch.allclose(first, turned)
    torch.testing.assert_close(longer, first)
    torch.testing.assert_close(empty, tower.newcomer_D)


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
        loss(torch.nn.functional.normalize(free, dim=2), present).backward()
        optimizer.step()
    assert spread() < 0.5 * before


def test_reconstruction_learns_what_one_modality_says_of_another():
    loss = build(LOSSES, "loss", "reconstruction", DIM, 2)
    one = torch.nn.functional.normalize(torch.randn(60, DIM), dim=1)
    turn = torch.linalg.qr(torch.randn(DIM, DIM))[0]
    tokens, present = torch.stack([one, one @ turn], dim=1), torch.ones(60, 2, dtype=torch.bool)
    before = loss(tokens, present).item()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss(tokens, present).backward()
        optimizer.step()
    assert loss(tokens, present).item() < 0.3 * before


def test_hand_computed_values_of_the_simple_losses():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    both = torch.ones(2, 2, dtype=torch.bool)
    linear = build(LOSSES, "loss", "linear", 2, 2)
    assert linear(tokens, both).item() == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    coral = build(LOSSES, "loss", "coral", 2, 2)
    # Means (1, 0) and (½, ½); covariances 0 and ½ [[1, −1], [−1, 1]].
    assert coral(tokens, both).item() == pytest.approx(0.25 * 4 * 0.25 + 0.5)
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
