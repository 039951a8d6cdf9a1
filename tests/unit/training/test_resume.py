"""A training that was interrupted ends with the weights of one that was not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crossweave.errors import SettingsError
from crossweave.training.collective import Collective, run_ranks
from crossweave.training.loop import TrainingOutcome, train
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


@pytest.mark.slow
def test_gradients_may_travel_at_half_precision(plan: TrainingPlan, tmp_path: Path):
    """The compressed training ends near the exact one, and not on it."""
    ends = {}
    for compression in ("none", "fp16"):
        chosen = replace(plan, folder=tmp_path / compression, max_epochs=1, validate_every=1, compression=compression)
        run_ranks(train, chosen, plan.ranks, 120, chosen.folder.local / "ranks", loopback=True)
        ends[compression] = load_file(chosen.folder / "model.safetensors")
    differences = [(ends["fp16"][name] - ends["none"][name]).abs().max().item() for name in ends["none"]]
    assert 0 < max(differences) < 0.1


def started(plan: TrainingPlan, folder: Path, stop_after: int | None = None, every: int = 3) -> TrainingOutcome:
    """Train into a folder, a checkpoint due after every few steps; all ranks stop in the named step."""

    def work(plan: TrainingPlan, collective: Collective) -> TrainingOutcome:
        from crossweave.training.checkpoint import Checkpoints
        from crossweave.training.loop import Trainer

        step, asked = Trainer._step, 0

        def step_or_stop(self, batches):
            nonlocal asked
            asked += 1
            if self.state.step == stop_after:
                raise SettingsError("stopped by the test")
            return step(self, batches)

        Trainer._step = step_or_stop
        Checkpoints.due = property(lambda self: asked % every == 0)
        return train(plan, collective)

    folder.mkdir(exist_ok=True)
    return run_ranks(work, replace(plan, folder=folder), plan.ranks, 120, folder / "ranks", loopback=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Horovod's, of a stopped rank
def test_training_stopped_in_any_step_and_resumed_ends_with_the_same_curves_and_weights(
    plan: TrainingPlan, tmp_path: Path
):
    plan = replace(plan, batch_users=4, accumulate=2)
    whole = started(plan, tmp_path / "whole")
    assert whole.epochs == EPOCHS
    per_epoch = whole.steps // EPOCHS
    assert per_epoch >= 3
    parted = tmp_path / "parted"
    # In the first epoch, at the end of the second, and in the middle of a later one, off the checkpoints.
    for stop in (2, 2 * per_epoch, 4 * per_epoch + 2):
        with pytest.raises(SettingsError, match="stopped by the test"):
            started(plan, parted, stop, every=2)
    newest = max((parted / "checkpoints").glob("step-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-7])
    resumed = started(plan, parted)
    assert resumed.resumed_from == 4
    assert 0 < resumed.figures["resumed_from_step"] < int(newest.stem.removeprefix("step-"))
    assert resumed.curves == whole.curves
    assert board(parted) == [pytest.approx(value) for _, value in whole.curves["loss"]]
    assert weights(replace(plan, folder=parted)) == weights(replace(plan, folder=tmp_path / "whole"))
    lines = [json.loads(line) for line in plan.progress.text().splitlines()]
    assert [newest.stem in line["warning"] for line in lines if "warning" in line] == [True]
