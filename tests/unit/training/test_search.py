"""The search itself, on judgements that a formula gives: what it remembers, prunes, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossweave.errors import SettingsError, TrainingDivergedError, TryAgainError
from crossweave.training.collective import run_ranks
from crossweave.training.loop import train
from crossweave.training.search import STARTUP, Axis, Judged, SearchPlan, Trial, floors, propose, read_trials, search

SPACE = {
    "train.learning_rate": Axis(0.001, 0.1, log=True),
    "model.dim": Axis(8, 64, step=8, whole=True),
    "model.fusion": Axis(choices=["gated", {"a": [1, 2]}, None]),
}


def plan(folder: Path, **changes: Any) -> SearchPlan:
    return replace(SearchPlan(SPACE, 6, "tpe", True, 17, folder), **changes)


def judge(number: int, parameters: dict[str, Any], below: dict[int, float]) -> Judged:
    """Good near 0.01 and at wide models."""
    metric = parameters["model.dim"] / 64 - abs(parameters["train.learning_rate"] - 0.01)
    return Judged(metric, [[1, metric / 2], [2, metric]], {"steps": 7})


def test_every_trial_is_within_its_space_and_kept_and_the_best_is_returned(tmp_path: Path) -> None:
    best = search(plan(tmp_path), judge)
    trials = read_trials(tmp_path)
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4, 5]
    assert best == max(trials, key=lambda trial: trial.metric or 0.0)
    for trial in trials:
        assert 0.001 <= trial.parameters["train.learning_rate"] <= 0.1
        assert trial.parameters["model.dim"] in range(8, 65, 8)
        assert type(trial.parameters["model.dim"]) is int
        assert trial.parameters["model.fusion"] in SPACE["model.fusion"].choices  # type: ignore[operator]
        assert (trial.state, trial.curve[1][1], trial.figures) == ("complete", trial.metric, {"steps": 7})


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_tries_the_same_and_another_seed_something_else(tmp_path: Path, sampler: str) -> None:
    tried = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        search(plan(tmp_path / name, seed=seed, sampler=sampler, trials=25), judge)  # TPE models from the 11th on
        tried.append([trial.parameters for trial in read_trials(tmp_path / name)])
        assert len(tried[-1]) == 25
    assert tried[0] == tried[1] != tried[2]


def test_an_interrupted_search_goes_on_without_running_a_finished_trial_again(tmp_path: Path) -> None:
    ran: list[int] = []

    def interrupted(number: int, parameters: dict[str, Any], below: dict[int, float]) -> Judged:
        ran.append(number)
        if ran == [0, 1, 2]:
            raise KeyboardInterrupt
        if ran == [0, 1, 2, 2, 3]:
            raise TryAgainError("a rank was lost")
        return judge(number, parameters, below)

    with pytest.raises(KeyboardInterrupt):
        search(plan(tmp_path / "parted"), interrupted)
    with pytest.raises(TryAgainError):
        search(plan(tmp_path / "parted"), interrupted)
    best = search(plan(tmp_path / "parted"), interrupted)
    assert ran == [0, 1, 2, 2, 3, 3, 4, 5]
    whole = search(plan(tmp_path / "whole"), judge)
    assert replace(best, seconds=whole.seconds) == whole
    both = [[trial.parameters for trial in read_trials(tmp_path / name)] for name in ("parted", "whole")]
    assert both[0] == both[1]
    search(plan(tmp_path / "parted", trials=7), interrupted)
    assert ran[-1] == 6  # more trials go on with those that are there
    assert len(ran) == 9


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    def narrow(number: int, parameters: dict[str, Any], below: dict[int, float]) -> Judged:
        if number in (0, 3):
            raise TrainingDivergedError("the loss is not finite") if number else ValueError("heads do not divide dim")
        return judge(number, parameters, below)

    search(plan(tmp_path), narrow)
    trials = read_trials(tmp_path)
    failed, good = ("failed", None), "complete"
    assert [(t.state, t.metric) if t.metric is None else t.state for t in trials] == [
        failed, good, good, failed, good, good
    ]  # fmt: skip
    assert (trials[0].error, trials[3].error) == (
        "ValueError: heads do not divide dim",
        "TrainingDivergedError: the loss is not finite",
    )


def test_a_search_of_failures_alone_is_an_error_that_names_the_first(tmp_path: Path) -> None:
    def fail(number: int, parameters: dict[str, Any], below: dict[int, float]) -> Judged:
        raise TrainingDivergedError(f"number {number}")

    with pytest.raises(SettingsError, match=r"none of 2 trials.*TrainingDivergedError: number 0"):
        search(plan(tmp_path, trials=2), fail)
    assert [trial.state for trial in read_trials(tmp_path)] == ["failed", "failed"]


def test_a_small_space_ends_when_all_of_it_was_tried(tmp_path: Path) -> None:
    small = {"model.fusion": Axis(choices=["gated", "concat"]), "model.dim": Axis(8, 16, step=8, whole=True)}
    best = search(plan(tmp_path, space=small, trials=30), lambda *words: Judged(1.0, []))
    assert best.number == 0  # the first of equals
    tried = [tuple(trial.parameters.values()) for trial in read_trials(tmp_path)]
    assert sorted(tried) == [("concat", 8), ("concat", 16), ("gated", 8), ("gated", 16)]


def test_tpe_learns_from_the_trials_before(tmp_path: Path) -> None:
    """After thirty trials it proposes wide models far more often than chance, which is a half."""
    search(plan(tmp_path, trials=30), judge)
    trials = read_trials(tmp_path)
    later = [propose(plan(tmp_path, seed=seed), trials) for seed in range(10)]
    assert sum(given is not None and given["model.dim"] > 32 for given in later) >= 9


def trial(number: int, *curve: float, state: Any = "complete") -> Trial:
    points = [[float(epoch), metric] for epoch, metric in enumerate(curve, 1)]
    return Trial(number, state, {"model.dim": number}, curve[-1], 1.0, points, {}, "")


def test_the_floor_is_the_median_of_the_best_so_far_of_complete_trials() -> None:
    complete = [trial(n, 0.1 * n, 0.05) for n in range(STARTUP)]
    assert floors(complete[:-1]) == {}
    assert floors([*complete, trial(9, 0.9, state="pruned")]) == {1: pytest.approx(0.2), 2: pytest.approx(0.2)}


def test_floors_are_for_trials_that_may_be_pruned(tmp_path: Path) -> None:
    given: dict[bool, list[dict[int, float]]] = {True: [], False: []}
    for prune, seen in given.items():

        def watch(number: int, parameters: dict[str, Any], below: dict[int, float], seen=seen) -> Judged:
            seen.append(below)
            return judge(number, parameters, below)

        search(plan(tmp_path / str(prune), prune=prune), watch)
    assert [bool(below) for below in given[True]] == [False] * STARTUP + [True]
    assert not any(given[False])


@pytest.mark.slow
def test_a_training_ends_below_its_floor_and_stays_ended(training_plan, tmp_path: Path) -> None:
    chosen = training_plan(train__ranks=1, train__max_epochs=3)
    for start in ("first", "again"):
        outcome = run_ranks(train, replace(chosen, floors={2: 2.0}), 1, 120, tmp_path / start, loopback=True)
        assert (outcome.epochs, outcome.pruned) == (2, True)
    outcome = run_ranks(train, replace(chosen, floors={2: 0.0, 3: 2.0}), 1, 120, tmp_path / "whole", loopback=True)
    assert (outcome.epochs, outcome.pruned) == (3, False)  # at its end there is nothing to save any more
