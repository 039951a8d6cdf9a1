"""Trains one model under Horovod, blends the collaborative models in, and publishes both in one folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossweave.alignment import LOSSES, build, find
from crossweave.alignment.blend import FOLDER, save_members
from crossweave.alignment.collaborative.base import Factorise
from crossweave.alignment.losses.base import ContentLoss
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.store import WEIGHTS, load_weights
from crossweave.artifacts.model import MODEL
from crossweave.artifacts.sealed import building, publish
from crossweave.feeding.factors import spark_als
from crossweave.feeding.interactions import read_interactions
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.neighbours import spark_neighbours
from crossweave.runtime.rank_progress import followed
from crossweave.runtime.stage import StageContext
from crossweave.scoring.neighbours import nearest_items
from crossweave.storage.arrays import write_array
from crossweave.storage.location import Location
from crossweave.training.blending import BlendOutcome, Workers, fit_blend
from crossweave.training.checkpoint import CHECKPOINTS
from crossweave.training.collective import run_ranks
from crossweave.training.loop import train
from crossweave.training.planning import blend_plan, rank_limits, training_plan

STAGE = "train"
BEST = "best.yaml"
"""The settings that a search chose, beside the model."""


@dataclass(frozen=True)
class Fitted:
    """A training's end: what it reached, in figures and in words."""

    metric: float | None  # of the validation; None: a trial that was ended early
    curve: list[list[float]]
    figures: dict[str, float]
    note: str


def fit(
    context: StageContext,
    manifest: Manifest,
    folder: Location,
    fingerprint: str,
    protocol: str,
    label: str = STAGE,
    floors: dict[int, float] | None = None,
    chosen: str = "",
) -> Fitted:
    """Train one model, blend it and publish both in its folder."""
    settings = context.settings
    workers: Workers = {
        "factorise": functools.partial(spark_als, context.spark, context.staging / "als"),
        "neighbours": functools.partial(spark_neighbours, context.spark, context.staging / "graph", nearest_items),
    }
    plan = training_plan(settings, manifest, _training_of(context, folder), context.place / "training.jsonl", protocol)
    teacher = fit_teacher(plan.spec, manifest, plan.folder, workers["factorise"], settings.seed)
    plan = replace(plan, floors=floors or {}, teacher=teacher)
    master = str(context.spark.sparkContext.master)
    limits, local = rank_limits(settings, master), master.startswith("local")
    shown = functools.partial(_shown, settings.train.metric)
    with followed(plan.progress, context.progress(label, plan.max_epochs, "epochs"), shown):
        outcome = run_ranks(train, plan, plan.ranks, limits, context.folder / "ranks", local, context.place / "ranks")
    figures = {
        f"validation_{settings.train.metric}": outcome.best_metric,
        "best_epoch": outcome.best_epoch,
        "epochs": outcome.epochs,
        "steps": outcome.steps,
        "resumed_from_epoch": outcome.resumed_from,
        **outcome.figures,
    }
    curve = outcome.curves.get("validation", [])
    if outcome.pruned:
        return Fitted(None, curve, figures, "")
    with building(folder) as draft:
        (plan.folder / WEIGHTS).download(draft / WEIGHTS)
        blend = _blend(context, manifest, plan.spec, draft / WEIGHTS, workers)
        facts = {
            "spec": plan.spec.as_json(),
            "tensors": manifest.folder.name,
            "metric": settings.train.metric,
            "best_metric": outcome.best_metric,
            "best_epoch": outcome.best_epoch,
            "curves": outcome.curves,
            FOLDER: save_members(draft, blend.members),
            "content_map": blend.found.settings.as_json() if blend.found is not None else None,
        }
        if chosen:
            (draft / BEST).write_text(chosen, encoding="utf-8")
        publish(MODEL, draft, folder, fingerprint, facts)
    for done in (CHECKPOINTS, WEIGHTS):  # TensorBoard's scalars stay
        (plan.folder / done).remove()
    note = (
        f"validation {settings.train.metric} {outcome.best_metric:.4f} at epoch {outcome.best_epoch}"
        f" of {outcome.epochs}"
    )
    metric = outcome.best_metric
    if blend.metric is not None:
        figures[f"validation_{settings.train.metric}_blend"] = blend.metric
        note += f", {blend.metric:.4f} with {', '.join(m.name for m in blend.members) or 'nothing'} blended in"
        # Under the cold protocol the blend is weighed on warm items, the neural model judged by content alone.
        metric = blend.metric if protocol == "warm" else metric
    if blend.found is not None:
        figures["content_map"] = blend.found.metric
    return Fitted(metric, curve, figures, note)


def _shown(metric: str, entry: Mapping[str, Any]) -> str:
    return f"loss {entry['loss']:.4f}" + (f" · {metric} {entry['metric']:.4f}" if "metric" in entry else "")


def _training_of(context: StageContext, model: Location) -> Location:
    """Return where a model in training keeps what it must not lose."""
    return context.workspace / "training" / model.below(context.workspace / "models")


def fit_teacher(
    spec: ModelSpec, manifest: Manifest, folder: Location, factorise: Factorise, seed: int
) -> Location | None:
    """Fit what the content losses learn from, once a model; None where the model has none."""
    shape = spec.dim, len(spec.modalities)
    taught = [name for name in spec.losses if issubclass(find(LOSSES, "loss", name), ContentLoss)]
    losses = [build(LOSSES, "loss", name, *shape, **spec.loss_settings.get(name, {})) for name in taught]
    wanted = losses[0].teacher if losses else None
    place = folder / "teacher.npy"
    if wanted is not None and not place.is_file():
        write_array(place, factorise(read_interactions(manifest).seen_UN, seed=seed, **wanted))
    return place if wanted is not None else None


def _blend(context: StageContext, manifest: Manifest, spec: ModelSpec, weights: Path, workers: Workers) -> BlendOutcome:
    """Fit the collaborative models in this process: closed forms, of one machine's size by their settings."""
    plan = blend_plan(context.settings, workers)
    progress = context.progress("blend", len(plan.collaborative) + 1, "models")
    done = 0

    def tick(what: str) -> None:
        nonlocal done
        progress.update(min(done, len(plan.collaborative)), what)
        done += 1

    model = load_weights(spec, weights)
    outcome = fit_blend(plan, model, open_items(manifest), read_interactions(manifest), tick)
    progress.close(len(plan.collaborative) + 1)
    return outcome
