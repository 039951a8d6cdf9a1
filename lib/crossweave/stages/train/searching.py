"""Trains with several settings and keeps the best model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import yaml

from crossweave.artifacts.model import MODEL
from crossweave.artifacts.sealed import building, open_sealed, publish
from crossweave.config import Settings
from crossweave.config.load import nested
from crossweave.config.space import is_whole, settled, trial_settings
from crossweave.errors import SettingsError
from crossweave.feeding.interactions import read_interactions
from crossweave.feeding.manifest import Manifest
from crossweave.runtime.stage import StageContext
from crossweave.stages.train.fitting import BEST, Fitted, fit
from crossweave.storage.location import Location
from crossweave.storage.records import digest
from crossweave.training.planning import model_facts
from crossweave.training.search import TRIALS, Axis, Judged, SearchPlan, Trial, best_of, read_trials, search


def search_settings(
    context: StageContext, manifest: Manifest, folder: Location, fingerprint: str, protocol: str
) -> Fitted:
    """Train with several settings and keep the best model, its settings in best.yaml beside it."""
    settings = context.settings
    if not any(len(wanted) for wanted in read_interactions(manifest).held_out):
        raise SettingsError("a search needs validation rows to choose by", "see split.valid_fraction")
    plan = _search_plan(settings, context.workspace / "models", model_facts(settings, manifest))

    def place(number: int, parameters: dict[str, Any]) -> tuple[Location, str]:
        own = digest(model_facts(trial_settings(settings, parameters), manifest))
        return plan.folder / f"trial-{number:04d}-{own[:8]}", own

    def try_out(number: int, parameters: dict[str, Any], floors: dict[int, float]) -> Judged:
        own = context.part(f"trial-{number:04d}", trial_settings(settings, parameters))
        fitted = fit(own, manifest, *place(number, parameters), protocol, f"trial {number + 1}", floors)
        return Judged(fitted.metric, fitted.curve, fitted.figures)

    def tidy(trials: Sequence[Trial]) -> None:
        best = best_of(trials)
        kept = {place(best.number, best.parameters)[0]} if best else set()
        for old in {folder for folder in plan.folder.children() if folder.name.startswith("trial-")} - kept:
            old.remove()

    best = search(plan, try_out, tidy)
    chosen, (source, own) = settled(settings, best.parameters), place(best.number, best.parameters)
    trial = open_sealed(MODEL, source, own) if trial_settings(settings, best.parameters) == chosen else None
    chosen_yaml = yaml.safe_dump(nested(best.parameters), sort_keys=False)
    if trial is not None:
        with building(folder) as draft:
            for name in trial.files:
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(trial.path(name), draft / name)
            (draft / BEST).write_text(chosen_yaml, encoding="utf-8")
            publish(MODEL, draft, folder, fingerprint, trial.facts)
        figures, note = dict(best.figures), f"validation {settings.train.metric} {best.metric:.4f}"
    else:  # its budget was smaller than a training's
        fitted = fit(context.part("best", chosen), manifest, folder, fingerprint, protocol, chosen=chosen_yaml)
        figures, note = fitted.figures, fitted.note
    trials = read_trials(plan.folder)
    (context.place / TRIALS).put((plan.folder / TRIALS).read())
    for state in ("complete", "pruned", "failed"):
        figures[f"trials_{state}"] = sum(trial.state == state for trial in trials)
    told = ", ".join(f"{path}={value}" for path, value in best.parameters.items())
    note += f" by trial {best.number + 1} of {len(trials)}, {told} · {folder / BEST} · {plan.folder / TRIALS}"
    return Fitted(best.metric, best.curve, figures, note)


def _search_plan(settings: Settings, models: Location, facts: dict[str, Any]) -> SearchPlan:
    """Return the search; its folder does not depend on the number of trials, so that more of them go on with it."""
    chosen = settings.search
    axes = {
        path: Axis(**span.model_dump(exclude_none=True), whole=is_whole(settings, path, span))
        for path, span in chosen.space.items()
    }
    name = digest([facts, chosen.model_dump(mode="json", exclude={"trials"})])[:16]
    return SearchPlan(axes, chosen.trials, chosen.sampler, chosen.prune, settings.seed, models / f"search-{name}")
