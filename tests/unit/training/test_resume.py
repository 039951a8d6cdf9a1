"""A training that was interrupted ends with the weights of one that was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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


def board(folder: Path) -> list[float]:
    """Return the losses that TensorBoard shows, one an epoch."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    shown = events.Scalars("loss")
    assert [event.step for event in shown] == list(range(1, EPOCHS + 1))
    return [event.value for event in shown]


def test_gradients_may_travel_at_half_precision(plan: TrainingPlan, tmp_path: Path):
    """The compressed training ends near the exact one, and not on it."""
    ends = {}
    for compression in ("none", "fp16"):
        chosen = replace(plan, folder=tmp_path / compression, max_epochs=1, validate_every=1, compression=compression)
        chosen.folder.mkdir()
        run_ranks(train, chosen, plan.ranks, 120, chosen.folder / "ranks", loopback=True)
        ends[compression] = load_file(chosen.folder / "model.safetensors")
    differences = [(ends["fp16"][name] - ends["none"][name]).abs().max().item() for name in ends["none"]]
    assert 0 < max(differences) < 0.1


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
    assert board(tmp_path / "parted") == [pytest.approx(value) for _, value in whole.curves["loss"]]
    assert weights(replace(plan, folder=tmp_path / "parted")) == weights(replace(plan, folder=tmp_path / "whole"))
