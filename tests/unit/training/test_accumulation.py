"""A step on several batches a rank takes the mean of their gradients, over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import load_manifest
from crossweave.training.collective import Collective, run_ranks
from crossweave.training.loop import Trainer
from crossweave.training.plan import TrainingPlan


@pytest.mark.slow
def test_two_batches_give_the_mean_of_their_gradients(training_plan, tmp_path: Path) -> None:
    def moments(plan: TrainingPlan, collective: Collective) -> list[dict[str, torch.Tensor]]:
        """Return Adam's first moments after a step on two batches, and after one on each: a tenth of the gradients."""
        manifest = load_manifest(plan.tensors)
        assert manifest is not None

        def after(numbers: Sequence[int]) -> dict[str, torch.Tensor]:
            chosen = replace(plan, accumulate=len(numbers), clip_norm=1e9)
            trainer = Trainer(chosen, collective, manifest, open_items(manifest))
            batches = list(trainer.feed.read(0, 0))
            _, due = trainer._step([batches[number] for number in numbers])
            assert not due
            state = trainer.optimizer.state
            return {name: state[weight]["exp_avg"] for name, weight in trainer.model.named_parameters()}

        return [after(numbers) for numbers in ((0, 1), (0,), (1,))]

    plan = training_plan(train__batch_users=4)
    both, first, second = run_ranks(moments, plan, 2, 120, tmp_path / "ranks", loopback=True)
    assert any((first[name] - second[name]).abs().max() > 1e-4 for name in both)
    for name, moment in both.items():
        torch.testing.assert_close(moment, (first[name] + second[name]) / 2, rtol=1e-4, atol=1e-7, msg=name)
