"""Every part trains under Horovod on two ranks, on real tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from crossweave.alignment import FUSIONS, HEADS, LOSSES, USER_TOWERS
from crossweave.training.collective import run_ranks
from crossweave.training.loop import train

COMBINATIONS = [
    ("concat", "mean", "mlp", {"bpr": 1.0, "rating": 0.1, "linear": 0.1, "coral": 0.1}),
    ("gated", "gru", "fm", {"click": 1.0, "adversarial": 0.05, "mmd": 0.1}),
    ("transformer", "causal_transformer", "dot", {"sampled_softmax": 1.0, "reconstruction": 0.1, "distillation": 0.1}),
    ("bilinear", "lstm", "cosine", {"sampled_softmax": 1.0, "bpr": 0.2, "infonce": 0.1}),
    ("attention", "target_attention", "dot", {"sampled_softmax": 1.0, "rating": 0.1, "infonce": 0.1}),
    ("concat", "id", "dot", {"sampled_softmax": 1.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "tower", "head", "losses"), COMBINATIONS)
def test_a_combination_of_parts_trains_on_two_ranks_and_its_loss_falls(
    training_plan, tmp_path: Path, fusion, tower, head, losses
):
    none = dict.fromkeys(("sampled_softmax", "infonce"), 0.0)
    plan = training_plan(
        model__fusion=fusion,
        model__user_tower=tower,
        model__head=head,
        model__losses={**none, **losses},
        train__max_epochs=6,
        train__patience=6,
        # Vectors of users start at zero and are met once an epoch: a dozen steps need larger ones to show.
        train__learning_rate=0.1 if tower == "id" else 0.0042,
    )
    assert set(plan.spec.losses) == set(losses)
    if "distillation" in losses:
        items = np.random.default_rng(1).standard_normal((plan.spec.items, 64)).astype(np.float32)
        np.save(tmp_path / "teacher.npy", items)
        plan = replace(plan, teacher=tmp_path / "teacher.npy")
    outcome = run_ranks(train, plan, plan.ranks, 120, tmp_path / "ranks", loopback=True)
    curve = [loss for _, loss in outcome.curves["loss"]]
    assert curve[-1] < curve[0]
    assert {name for name in outcome.curves if name.startswith("loss/")} == {f"loss/{name}" for name in losses}
    weights = load_file(tmp_path / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    entries = [json.loads(line) for line in plan.progress.text().splitlines()]
    assert [entry["epoch"] for entry in entries] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_negatives_of_all_ranks_weights_and_constraints_train_on_two_ranks(training_plan, tmp_path: Path):
    plan = training_plan(
        model__loss_settings={"infonce": {"all_ranks": True}},
        model__token_norm="layer",
        model__max_norm=0.4,
        train__negatives=20,
        train__negative_power=0.75,
        train__item_balance=0.5,
        train__weight_by="weight",
        train__max_epochs=4,
        train__patience=4,
    )
    outcome = run_ranks(train, plan, plan.ranks, 120, tmp_path / "ranks", loopback=True)
    curve = [loss for _, loss in outcome.curves["loss"]]
    assert curve[-1] < curve[0]
    weights = load_file(tmp_path / "model.safetensors")
    for name in ("id_target", "id_history"):
        lengths = weights[f"{name}.weight"].norm(dim=1)
        assert lengths.max() == pytest.approx(0.4, abs=1e-5)
    assert any(name.endswith("norm.weight") for name in weights)


def test_the_combinations_the_chain_s_defaults_and_the_resume_test_cover_every_part():
    fusions, towers, heads, losses = zip(*COMBINATIONS, strict=True)
    assert set(fusions) | {"attention", "weighted"} == set(FUSIONS)
    assert set(towers) | {"history_attention"} == set(USER_TOWERS)
    assert set(heads) == set(HEADS)
    assert set().union(*losses) == set(LOSSES)
