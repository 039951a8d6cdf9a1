"""A training that was interrupted ends with the weights of one that was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from crossweave.errors import SettingsError
from crossweave.training.collective import Collective, run_ranks
from crossweave.training.loop import train
from crossweave.training.plan import TrainingPlan

EPOCHS = 6


@pytest.fixture
def plan(training_plan) -> TrainingPlan:
    """The night's tensors, trained a little longer, into a folder of the test's own."""
    return training_plan(model__fusion="weighted", train__max_epochs=EPOCHS, train__patience=EPOCHS)


def weights(plan: TrainingPlan) -> dict[str, list[float]]:
    return {k: v.flatten().tolist() for k, v in load_file(plan.folder / "model.safetensors").items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Horovod's, of a stopped rank
def test_training_stopped_after_any_epoch_and_resumed_ends_with_the_same_curves_and_weights(
    plan: TrainingPlan, tmp_path: Path
):
    def start(folder: Path, stop_after: int | None = None):
        def work(plan: TrainingPlan, collective: Collective):
            from crossweave.training.checkpoint import Checkpoints

            save = Checkpoints.save

            def save_and_stop(self, model, optimizer, state):
                save(self, model, optimizer, state)
                if state.epoch == stop_after:
                    raise SettingsError("stopped by the test")

            Checkpoints.save = save_and_stop
            try:
                return train(plan, collective)
            finally:
                Checkpoints.save = save

        folder.mkdir(exist_ok=True)
        return run_ranks(work, replace(plan, folder=folder), plan.ranks, 120, folder / "ranks", loopback=True)

    whole = start(tmp_path / "whole")
    assert whole.epochs == EPOCHS
    for stop in (1, 4):
        with pytest.raises(SettingsError, match="stopped by the test"):
            start(tmp_path / "parted", stop)
    resumed = start(tmp_path / "parted")
    assert resumed.resumed_from == 4
    assert resumed.curves == whole.curves
    assert weights(replace(plan, folder=tmp_path / "parted")) == weights(replace(plan, folder=tmp_path / "whole"))
