"""What a checkpoint survives, and what an epoch cut in two adds up to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crossweave.training.checkpoint import Checkpoints, TrainingState


def made(folder: Path, steps: range, keep: int = 3) -> Checkpoints:
    """Train a line for some steps and write a checkpoint after each: its weight is the number of the step."""
    checkpoints = Checkpoints(folder, keep)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    for step in steps:
        torch.nn.init.constant_(model.weight, step)
        state = TrainingState(epoch=1, step=step, epoch_step=2, epoch_steps=9, sums={"loss": 0.1 + step})
        checkpoints.save(model, optimizer, state)
    return checkpoints


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "damage"), [("safetensors", cut), ("safetensors", flip), ("json", cut), ("json", empty)]
)
def test_a_damaged_checkpoint_is_told_of_removed_and_the_one_before_it_is_taken(
    tmp_path: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    checkpoints = made(tmp_path, range(1, 4))
    damage(tmp_path / f"step-000000003.{kind}")
    warnings: list[str] = []
    name = checkpoints.newest(warnings.append)
    assert name == "step-000000002"
    assert ["step-000000003" in text for text in warnings] == [True]
    assert not list(tmp_path.glob("*3.*"))
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    state = checkpoints.restore(name, model, optimizer)
    assert state == TrainingState(epoch=1, step=2, epoch_step=2, epoch_steps=9, sums={"loss": 2.1})
    assert model.weight.item() == 2.0
    assert optimizer.state[model.weight]["step"] == 1.0


def test_where_all_are_damaged_training_starts_anew(tmp_path: Path) -> None:
    checkpoints = made(tmp_path, range(1, 3))
    for path in tmp_path.glob("*.json"):
        cut(path)
    warnings: list[str] = []
    assert checkpoints.newest(warnings.append) is None
    assert len(warnings) == 2
    assert not list(tmp_path.iterdir())


def test_the_last_few_are_kept_and_tensors_without_their_json_do_not_count(tmp_path: Path) -> None:
    checkpoints = made(tmp_path, range(1, 6), keep=2)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["step-000000004.json", "step-000000005.json"]
    (tmp_path / "step-000000005.json").unlink()
    assert checkpoints.newest(pytest.fail) == "step-000000004"


def test_a_checkpoint_is_due_when_the_last_one_is_old_enough(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, 1, minutes=1e-9).due
    assert not Checkpoints(tmp_path, 1, minutes=10.0).due


def test_an_epoch_of_other_steps_goes_on_at_the_same_share_and_its_mean_stays_one() -> None:
    state = TrainingState(epoch_step=3, epoch_steps=10, sums={"loss": 3 * 2.0 / 10})
    state.of_steps(19)
    assert (state.epoch_step, state.epoch_steps) == (6, 19)  # never less than was done
    assert state.sums["loss"] + 13 * 2.0 / 19 == pytest.approx(2.0)
