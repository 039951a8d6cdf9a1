"""Two real ranks: they start alike, learn, agree on the end, and go on from a checkpoint to the same weights."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_models import make_vit
from pretraining_ranks import gradient_of, learn
from pyspark.sql import SparkSession
from safetensors.torch import load_file
from tiny import picture, tiny_bert
from trainable import PLAIN

from crossweave.config.pretraining import PretrainStep, Tuning
from crossweave.encoders import make_encoder
from crossweave.pretraining.kept import kept_by
from crossweave.pretraining.loop import WEIGHTS, PretrainOutcome, save_best
from crossweave.pretraining.plan import PretrainPlan
from crossweave.storage.location import Location
from crossweave.training.checkpoint import Checkpoints
from crossweave.training.collective import run_ranks

TASK = PretrainStep(objective="masked", max_epochs=4, patience=4, batch=8, learning_rate=5e-3, warmup_steps=2)


@pytest.fixture
def plan(tmp_path: Path) -> PretrainPlan:
    encoder = make_encoder("text", "transformer", {"path": str(tiny_bert(tmp_path / "bert"))})
    folder = Location.of(tmp_path / "one")
    return PretrainPlan(TASK, encoder, None, folder, folder / "lines.jsonl", 1, 17, "cpu")


def ranks(plan: PretrainPlan, folder: Path, work: Any = learn) -> tuple[PretrainOutcome, float]:
    found: tuple[PretrainOutcome, float] = run_ranks(work, plan, 2, 120, folder, loopback=True)
    return found


@pytest.mark.slow
def test_two_ranks_learn_alike_and_what_they_learned_encodes(plan: PretrainPlan, spark: SparkSession, tmp_path: Path):
    for objective, own in (("masked", {}), ("behaviour", {"items": 24})):
        task = TASK.model_copy(update={"objective": objective, "own": own})
        own_plan = replace(plan, task=task, folder=Location.of(tmp_path / objective))
        outcome, spread = ranks(own_plan, tmp_path / f"ranks-{objective}")
        assert spread == pytest.approx(0.0, abs=1e-9)
        assert outcome.best_loss < outcome.first_loss
        assert 0 < outcome.learns < outcome.weights / 3
        learned = (own_plan.folder / WEIGHTS).local
        save_best(own_plan, learned, tmp_path / f"model-{objective}", tmp_path / "adapter")
        encoder = make_encoder("text", "transformer", {"path": str(tmp_path / f"model-{objective}")})
        encoder.load()
        assert np.isfinite(encoder.encode(encoder.prepare(["red shirt"]).examples)).all()


@pytest.mark.slow
def test_one_that_was_stopped_in_an_epoch_ends_with_the_same_weights(
    plan: PretrainPlan, spark: SparkSession, tmp_path: Path
) -> None:
    task = TASK.model_copy(update={"tune": Tuning(method="adalora", rank=4)})  # it has a memory of its own beside
    plan = replace(plan, task=task, checkpoint_minutes=0.0)
    whole, _ = ranks(plan, tmp_path / "ranks-1")
    again = replace(plan, folder=Location.of(tmp_path / "two"), progress=Location.of(tmp_path / "two.jsonl"))
    ranks(again, tmp_path / "ranks-2", functools.partial(learn, stop_at=9))
    assert Checkpoints(again.folder / "checkpoints", 2).newest(str) == "step-000000009"
    resumed, _ = ranks(again, tmp_path / "ranks-3")
    assert resumed.resumed_from == 9
    assert resumed.curves == whole.curves
    one, two = (load_file((p.folder / WEIGHTS).local) for p in (plan, again))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(two[name], value), name


@pytest.mark.slow
def test_ranks_that_share_their_negatives_learn_as_one_that_has_all(spark: SparkSession, tmp_path: Path) -> None:
    """The gradient of two ranks, averaged, is that of one with both shares: for every objective that compares."""
    encoder = make_encoder("image", "transformer", PLAIN | {"path": str(make_vit(tmp_path / "vit"))})
    colours = ("red", "green", "blue", "black", "white", "orange")
    kept = kept_by(encoder).prepare([picture(colour, (40, 40), "PNG") for colour in colours]).examples

    def both(plan: Any, collective: Any) -> list[np.ndarray]:
        torch.set_num_threads(1)
        return [gradient_of(name, encoder, kept, collective) for name in plan]

    names = ["contrastive", "vicreg", "paired"]
    apart = run_ranks(both, names, 2, 120, tmp_path / "two", loopback=True)
    alone = run_ranks(both, names, 1, 120, tmp_path / "one", loopback=True)
    for name, two, one in zip(names, apart, alone, strict=True):
        assert np.abs(one[:-1]).max() > 1e-4, name
        np.testing.assert_allclose(two, one, atol=2e-5 * np.abs(one).max(), err_msg=name)
