"""Search over settings: Optuna proposes, the training judges, and a file of JSON lines remembers.

Optuna (Akiba et al. 2019) keeps nothing on disk: its study is rebuilt from the finished trials before each proposal,
and its sampler is seeded anew by (seed, number of the trial). So a trial's parameters depend on the seed and the
trials before it alone, and an interrupted search goes on as if it had not been.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossweave.errors import CrossweaveError, SettingsError, TryAgainError
from crossweave.redaction import redacted
from crossweave.storage.location import Location
from crossweave.storage.records import Place

if TYPE_CHECKING:  # it takes a third of a second to import: only a search pays for it
    import optuna

TRIALS = "trials.jsonl"
State = Literal["complete", "pruned", "failed"]
STARTUP = 5  # complete trials before the first is pruned
PROPOSALS = 20  # for one trial, until one has not been tried yet


@dataclass(frozen=True)
class Axis:
    """What one setting may be: from low to high, or one of the choices."""

    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    choices: Sequence[Any] | None = None  # any values that JSON can hold

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The axis as Optuna has it; choices go by their place, whatever they are."""
        import optuna

        if self.choices is not None:
            return optuna.distributions.CategoricalDistribution(range(len(self.choices)))
        if self.whole:
            return optuna.distributions.IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return optuna.distributions.FloatDistribution(self.low, self.high, self.log, self.step)

    def value(self, given: Any) -> Any:
        """Return the setting for what Optuna says."""
        return given if self.choices is None else self.choices[given]

    def place(self, value: Any) -> Any:
        """Return what Optuna says for a setting."""
        return value if self.choices is None else list(self.choices).index(value)


@dataclass(frozen=True)
class SearchPlan:
    """What a search is told."""

    space: Mapping[str, Axis]
    trials: int
    sampler: str  # tpe or random
    prune: bool
    seed: int
    folder: Location


@dataclass(frozen=True)
class Judged:
    """What a training says of its settings."""

    metric: float | None  # to be high; None: it was ended early
    curve: list[list[float]]  # [epoch, validation metric] pairs
    figures: dict[str, float] = field(default_factory=dict)  # to be kept with the trial


@dataclass(frozen=True)
class Trial:
    """One training of a search; a line of trials.jsonl."""

    number: int
    state: State
    parameters: dict[str, Any]  # setting -> value
    metric: float | None
    seconds: float
    curve: list[list[float]]
    figures: dict[str, float]
    error: str


Train = Callable[[int, dict[str, Any], dict[int, float]], Judged]
"""(number, parameters, floors) → its judgement; a training below the floor of an epoch may end there."""


def search(plan: SearchPlan, train: Train, after: Callable[[Sequence[Trial]], None] = lambda trials: None) -> Trial:
    """Run the trials that are not there yet and return the best; `after` is called whenever one has ended.

    A trial that its settings made fail (a diverged loss, a shape that does not fit) is recorded as failed; any other
    error ends the search, which goes on there when it is started again. Raises SettingsError where no trial was
    completed.
    """
    trials = read_trials(plan.folder)[: plan.trials]
    while len(trials) < plan.trials:
        parameters = propose(plan, trials)
        if parameters is None:
            break  # a small space, and all of it has been tried
        trials.append(_run(plan, train, trials, parameters))
        _write(plan.folder, trials)
        after(trials)
    best = best_of(trials)
    if best is None:
        failed = next((trial.error for trial in trials if trial.error), "")
        raise SettingsError(
            f"none of {len(trials)} trials of the search was completed; the first failed with: {failed}",
            f"narrow search.space; {plan.folder / TRIALS} has them all",
        )
    return best


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial of the highest metric, the first of equals; None where none was completed."""
    complete = [trial for trial in trials if trial.metric is not None]
    return max(complete, key=lambda trial: (trial.metric, -trial.number)) if complete else None


def read_trials(folder: Place) -> list[Trial]:
    """Read the trials of a search's folder; none where there are none."""
    place = Location.of(folder) / TRIALS
    if not place.is_file():
        return []
    return [Trial(**json.loads(line)) for line in place.text().splitlines()]


def propose(plan: SearchPlan, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the parameters of the next trial; None where only tried ones are proposed again and again."""
    for attempt in range(PROPOSALS):
        seed = int(np.random.SeedSequence([plan.seed, len(trials), attempt]).generate_state(1, np.uint32)[0])
        given = _study(plan, trials, seed).ask({path: axis.distribution for path, axis in plan.space.items()}).params
        parameters = {path: axis.value(given[path]) for path, axis in plan.space.items()}
        if all(parameters != trial.parameters for trial in trials):
            return parameters
    return None


def floors(trials: Sequence[Trial]) -> dict[int, float]:
    """Return epoch → the median of what complete trials had reached by then (Golovin et al. 2017, median stopping)."""
    reached: dict[int, list[float]] = {}
    for trial in trials:
        best = -np.inf
        for epoch, metric in trial.curve if trial.state == "complete" else ():
            best = max(best, metric)
            reached.setdefault(int(epoch), []).append(best)
    return {epoch: float(np.median(values)) for epoch, values in reached.items() if len(values) >= STARTUP}


def _run(plan: SearchPlan, train: Train, trials: Sequence[Trial], parameters: dict[str, Any]) -> Trial:
    number, start = len(trials), time.monotonic()
    state: State
    try:
        judged, error = train(number, parameters, floors(trials) if plan.prune else {}), ""
        state = "pruned" if judged.metric is None else "complete"
    except TryAgainError:
        raise
    except (CrossweaveError, RuntimeError, ValueError) as failure:
        judged, error, state = Judged(None, []), redacted(f"{type(failure).__name__}: {failure}"), "failed"
    seconds = round(time.monotonic() - start, 3)
    return Trial(number, state, parameters, judged.metric, seconds, judged.curve, judged.figures, error)


def _write(folder: Place, trials: Sequence[Trial]) -> None:
    (Location.of(folder) / TRIALS).put("".join(json.dumps(asdict(trial)) + "\n" for trial in trials))


def _study(plan: SearchPlan, trials: Sequence[Trial], seed: int) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds: dict[str, type[optuna.samplers.BaseSampler]] = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
    }
    study = optuna.create_study(direction="maximize", sampler=kinds[plan.sampler](seed=seed))  # type: ignore[call-arg]
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    study.add_trials(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState[states[trial.state]],
            value=trial.metric,
            params={path: axis.place(trial.parameters[path]) for path, axis in plan.space.items()},
            distributions={path: axis.distribution for path, axis in plan.space.items()},
            intermediate_values={int(epoch): metric for epoch, metric in trial.curve},
        )
        for trial in trials
    )
    return study
