"""Every part trains under Horovod on two ranks, on real tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from crossweave.alignment import FUSIONS, LOSSES, USER_TOWERS
from crossweave.training.collective import run_ranks
from crossweave.training.loop import train

COMBINATIONS = [
    ("concat", "mean", {"bpr": 1.0, "rating": 0.1, "linear": 0.1, "coral": 0.1}),
    ("gated", "gru", {"click": 1.0, "adversarial": 0.05, "mmd": 0.1}),
    ("transformer", "causal_transformer", {"sampled_softmax": 1.0, "reconstruction": 0.1}),
    ("bilinear", "lstm", {"sampled_softmax": 1.0, "bpr": 0.2, "infonce": 0.1}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "tower", "losses"), COMBINATIONS)
def test_a_combination_of_parts_trains_on_two_ranks_and_its_loss_falls(
    training_plan, tmp_path: Path, fusion, tower, losses
):
    none = dict.fromkeys(("sampled_softmax", "infonce"), 0.0)
    plan = training_plan(
        model__fusion=fusion,
        model__user_tower=tower,
        model__losses={**none, **losses},
        train__max_epochs=6,
        train__patience=6,
    )
    assert set(plan.spec.losses) == set(losses)
    outcome = run_ranks(train, plan, plan.ranks, 120, tmp_path / "ranks", loopback=True)
    curve = [loss for _, loss in outcome.curves["loss"]]
    assert curve[-1] < curve[0]
    assert {name for name in outcome.curves if name.startswith("loss/")} == {f"loss/{name}" for name in losses}
    weights = load_file(tmp_path / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    entries = [json.loads(line) for line in plan.progress.read_text(encoding="utf-8").splitlines()]
    assert [entry["epoch"] for entry in entries] == [1, 2, 3, 4, 5, 6]


def test_the_combinations_the_chain_s_defaults_and_the_resume_test_cover_every_part():
    fusions, towers, losses = zip(*COMBINATIONS, strict=True)
    assert set(fusions) | {"attention", "weighted"} == set(FUSIONS)
    assert set(towers) | {"history_attention"} == set(USER_TOWERS)
    assert set().union(*losses) == set(LOSSES)
