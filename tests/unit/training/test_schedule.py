from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from crossweave.training.schedule import learning_rate


def plan(scaling: str = "sqrt", warmup: int = 4) -> Any:
    return SimpleNamespace(learning_rate=0.1, lr_scaling=scaling, warmup_steps=warmup)


def test_the_rate_rises_in_a_line_then_falls_in_half_a_cosine_to_a_hundredth() -> None:
    rates = [learning_rate(plan(), 1, step, 104) for step in range(105)]
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[54] == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert rates[104] == pytest.approx(0.001)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize(("scaling", "times"), [("sqrt", 2.0), ("linear", 4.0), ("none", 1.0)])
def test_the_rate_grows_with_the_batches_of_a_step(scaling: str, times: float) -> None:
    assert learning_rate(plan(scaling, warmup=0), 4, 0, 10) == pytest.approx(0.1 * times)
