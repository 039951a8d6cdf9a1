from __future__ import annotations

import itertools
import math

import pytest
import torch

from crossweave.alignment import HEADS, build
from crossweave.alignment.heads import mlp
from crossweave.alignment.heads.base import Head
from crossweave.errors import SettingsError


def head(name: str, dim: int, **settings: object) -> Head:
    torch.manual_seed(0)
    made: Head = build(HEADS, "head", name, dim, **settings)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def product(made: Head, user: torch.Tensor, target: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    item, bias = made.items(target, bias)
    return made.users(user) @ item.T + bias


def test_cosine_by_hand() -> None:
    made = build(HEADS, "head", "cosine", 2, temperature=0.5)
    user, target, bias = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [-4.0, 3.0]]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(product(made, user, target, bias), torch.tensor([[2 * 0.6, 1.0]]))
    torch.testing.assert_close(product(made, 7 * user, target, bias), product(made, user, 3 * target, bias))
    with torch.no_grad():
        made.log_scale.fill_(math.log(1000.0))  # is held at 100
    torch.testing.assert_close(product(made, user, target, bias), torch.tensor([[60.0, 1.0]]))


def test_a_factorisation_machine_by_hand() -> None:
    made = build(HEADS, "head", "fm", 2, factors=1)
    with torch.no_grad():
        made.user.factors_Dk.copy_(torch.tensor([[1.0], [2.0]]))
        made.item.factors_Dk.copy_(torch.tensor([[3.0], [-1.0]]))
        made.user.linear_D.copy_(torch.tensor([0.5, 0.0]))
        made.item.linear_D.copy_(torch.tensor([0.0, 10.0]))
    # x = (2, 1; 1, 1), v = (1, 2, 3, −1): linear 1 + 10; pairs 1·2·2 + (1·3 + 1·−1)·2 + (2·3 + 2·−1)·1 + 3·−1 = 9.
    got = product(made, torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([0.25]))
    assert got.item() == pytest.approx(11 + 9 + 0.25)


def test_a_factorisation_machine_is_its_defining_sum_over_all_pairs_of_features() -> None:
    made = head("fm", 3, factors=4)
    user, target, bias = torch.randn(2, 3), torch.randn(5, 3), torch.randn(5)
    factors = torch.cat([made.user.factors_Dk, made.item.factors_Dk])
    linear = torch.cat([made.user.linear_D, made.item.linear_D])
    got = product(made, user, target, bias)
    for b, n in itertools.product(range(2), range(5)):
        x = torch.cat([user[b], target[n]])
        pairs = sum(factors[i] @ factors[j] * x[i] * x[j] for i, j in itertools.combinations(range(6), 2))
        torch.testing.assert_close(got[b, n], linear @ x + pairs + bias[n])


@pytest.mark.parametrize("with_product", [False, True])
@pytest.mark.parametrize("most", [1, 20, 4_000_000])
def test_an_mlp_is_that_of_each_pair_laid_side_by_side_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, most: int, with_product: bool
) -> None:
    monkeypatch.setattr(mlp, "MOST_NUMBERS", most)
    made = head("mlp", 3, hidden=[5, 4], with_product=with_product)
    user, target = torch.randn(4, 3), torch.randn(6, 3)
    sides = [made.of_user.weight, made.of_item.weight] + ([made.of_product.weight] if with_product else [])
    got = made.pairs(user, target)
    for b, n in itertools.product(range(4), range(6)):
        x = torch.cat([user[b], target[n]] + ([user[b] * target[n]] if with_product else []))
        units = torch.relu(torch.cat(sides, dim=1) @ x + made.of_user.bias)
        units = torch.relu(made.further[0](units))
        torch.testing.assert_close(got[b, n], made.last(units)[0])


def test_an_mlp_without_layers_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one layer"):
        build(HEADS, "head", "mlp", 3, hidden=[])
