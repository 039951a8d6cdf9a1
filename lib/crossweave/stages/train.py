"""Train: the alignment model under Horovod, on the tensors of the last tensors stage."""

from __future__ import annotations

import functools
import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crossweave.alignment import HEADS, LOSSES, USER_TOWERS, build, find
from crossweave.alignment.attention import TargetAware
from crossweave.alignment.blend import FOLDER, save_members
from crossweave.alignment.collaborative.base import Factorise
from crossweave.alignment.collaborative.content_map import ContentMapSettings
from crossweave.alignment.losses.base import ContentLoss
from crossweave.alignment.part_settings import check_parts
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.store import WEIGHTS, load_weights
from crossweave.artifacts.model import MODEL, TrainedModel
from crossweave.artifacts.sealed import building, open_sealed, publish
from crossweave.config import Settings
from crossweave.config.load import nested
from crossweave.config.space import check_space, is_whole, settled, trial_settings
from crossweave.errors import SettingsError
from crossweave.evaluation.metrics import Relevance, ranking_metrics
from crossweave.feeding.factors import spark_als
from crossweave.feeding.interactions import read_interactions
from crossweave.feeding.items import forget_items, open_items
from crossweave.feeding.manifest import Manifest, required_manifest
from crossweave.feeding.neighbours import spark_neighbours
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.scoring.neighbours import nearest_items
from crossweave.storage.arrays import write_array
from crossweave.storage.location import Location
from crossweave.storage.records import digest
from crossweave.tables.receipts import Receipt
from crossweave.tables.user_attributes import FIRST_VALUE
from crossweave.training.blending import BlendOutcome, BlendPlan, fit_blend
from crossweave.training.checkpoint import CHECKPOINTS
from crossweave.training.collective import Limits, run_ranks
from crossweave.training.loop import train
from crossweave.training.plan import ListMetric, TrainingPlan
from crossweave.training.search import TRIALS, Axis, Judged, SearchPlan, Trial, best_of, read_trials, search

STAGE = "train"
CODE_VERSION = 4
OF_THE_RUN = {"start_timeout_seconds", "stall_warn_seconds", "stall_seconds", "elastic", "min_ranks"}
OF_THE_MACHINE = {"device", "keep_checkpoints", "checkpoint_minutes"}
"""Settings of the training that do not decide the model; its ranks are not told the former."""

LOOK_SECONDS = 0.5  # between two looks at how far the ranks are
BEST = "best.yaml"
"""The settings that a search chose, beside the model."""

Workers = Mapping[str, Callable[..., Any]]
"""What collaborative models need that the cluster works out: `factorise`, `neighbours`."""

log = logging.getLogger(__name__)


def check_model(settings: Settings) -> None:
    """Raise SettingsError for a part that does not exist, or settings that a part or the content map does not take."""
    tower = find(USER_TOWERS, "user tower", settings.model.user_tower)
    head = find(HEADS, "head", settings.model.head)
    if issubclass(tower, TargetAware) and not head.product:
        raise SettingsError(
            f"user tower {settings.model.user_tower} needs a head that is a product, and {settings.model.head} is none",
            f"model.head may be {', '.join(name for name in HEADS if find(HEADS, 'head', name).product)}",
        )
    check_parts(settings.model, list(settings.modalities))
    if settings.search.trials:
        check_space(settings, check_model)
    if not settings.modalities and not settings.model.item_id:
        raise SettingsError("there is nothing to learn from: no modality, and model.item_id is false")


def train_alignment(context: StageContext, record: StageRecord) -> None:
    """Train, or find that the model of these tensors and settings is there.

    Writes a folder `models/FINGERPRINT` with model.safetensors and model.json. An interrupted training goes on from
    its last checkpoint.
    """
    settings = context.settings
    check_model(settings)
    receipts = context.receipts
    tensors = receipts.required("tensors")
    manifest, fingerprint = _inputs(context)
    folder, rows = MODEL.place(context.workspace, fingerprint), manifest.rows("sequences")
    record.reads = tensors.writes
    details = {"folder": folder.name, "tensors": manifest.fingerprint}
    receipt = Receipt(STAGE, fingerprint, context.run_id, record.reads, {}, rows, details)
    made = open_sealed(MODEL, folder, fingerprint)
    if made is not None:  # a made model is never written to again, whatever came in between
        made.verify()
        last = receipts.latest(STAGE)
        if last is None or last.fingerprint != fingerprint:
            receipts.publish(receipt)
        record.nothing_to_do(rows, record.reads, "the model of these tensors and settings is there")
        return
    fit = _search if settings.search.trials else _fit
    fitted = fit(context, manifest, folder, fingerprint, tensors.details["protocol"])
    forget_items(manifest)
    record.ledgers = {"sequences": Ledger(rows_in=rows, rows_out=rows)}
    record.metrics = fitted.figures
    record.curves = dict(TrainedModel.open(folder, fingerprint).facts["curves"])
    record.note = f"{fitted.note} · {folder}"
    receipts.publish(receipt)


def is_current(context: StageContext) -> bool:
    """Say whether the model of tonight's tensors and settings is there."""
    fingerprint = _inputs(context)[1]
    return open_sealed(MODEL, MODEL.place(context.workspace, fingerprint), fingerprint) is not None


def _inputs(context: StageContext) -> tuple[Manifest, str]:
    """Return the tensors and the fingerprint of all that decides the model."""
    tensors = context.receipts.required("tensors")
    manifest = required_manifest(context.workspace / "tensors" / tensors.details["folder"], tensors.fingerprint)
    facts = _facts(context.settings, manifest)
    if context.settings.search.trials:
        facts["search"] = context.settings.search.model_dump(mode="json")
    return manifest, digest(facts)


def _facts(settings: Settings, manifest: Manifest) -> dict[str, Any]:
    """Return what decides the model of one training."""
    return {
        "code": CODE_VERSION,
        "tensors": manifest.fingerprint,
        "model": model_spec(settings, manifest).as_json(),
        "blend": [settings.model.collaborative, settings.model.content_map, settings.model.content_map_search],
        "train": settings.train.model_dump(mode="json", exclude={*OF_THE_RUN, *OF_THE_MACHINE}),
        "seed": settings.seed,
    }


@dataclass(frozen=True)
class _Fitted:
    """A training's end: what it reached, in figures and in words."""

    metric: float | None  # of the validation; None: a trial that was ended early
    curve: list[list[float]]
    figures: dict[str, float]
    note: str


def _fit(
    context: StageContext,
    manifest: Manifest,
    folder: Location,
    fingerprint: str,
    protocol: str,
    label: str = STAGE,
    floors: dict[int, float] | None = None,
    chosen: str = "",
) -> _Fitted:
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
    limits, local = _limits(settings, master), master.startswith("local")
    with _show_progress(context, plan, label):
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
        return _Fitted(None, curve, figures, "")
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
    return _Fitted(metric, curve, figures, note)


def _training_of(context: StageContext, model: Location) -> Location:
    """Return where a model in training keeps what it must not lose."""
    return context.workspace / "training" / model.below(context.workspace / "models")


def _search(context: StageContext, manifest: Manifest, folder: Location, fingerprint: str, protocol: str) -> _Fitted:
    """Train with several settings and keep the best model, its settings in best.yaml beside it."""
    settings = context.settings
    if not any(len(wanted) for wanted in read_interactions(manifest).held_out):
        raise SettingsError("a search needs validation rows to choose by", "see split.valid_fraction")
    plan = _search_plan(settings, context.workspace / "models", _facts(settings, manifest))

    def place(number: int, parameters: dict[str, Any]) -> tuple[Location, str]:
        own = digest(_facts(trial_settings(settings, parameters), manifest))
        return plan.folder / f"trial-{number:04d}-{own[:8]}", own

    def try_out(number: int, parameters: dict[str, Any], floors: dict[int, float]) -> Judged:
        own = context.part(f"trial-{number:04d}", trial_settings(settings, parameters))
        fitted = _fit(own, manifest, *place(number, parameters), protocol, f"trial {number + 1}", floors)
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
        fitted = _fit(context.part("best", chosen), manifest, folder, fingerprint, protocol, chosen=chosen_yaml)
        figures, note = fitted.figures, fitted.note
    trials = read_trials(plan.folder)
    (context.place / TRIALS).put((plan.folder / TRIALS).read())
    for state in ("complete", "pruned", "failed"):
        figures[f"trials_{state}"] = sum(trial.state == state for trial in trials)
    told = ", ".join(f"{path}={value}" for path, value in best.parameters.items())
    note += f" by trial {best.number + 1} of {len(trials)}, {told} · {folder / BEST} · {plan.folder / TRIALS}"
    return _Fitted(best.metric, best.curve, figures, note)


def _search_plan(settings: Settings, models: Location, facts: dict[str, Any]) -> SearchPlan:
    """Return the search; its folder does not depend on the number of trials, so that more of them go on with it."""
    chosen = settings.search
    axes = {
        path: Axis(**span.model_dump(exclude_none=True), whole=is_whole(settings, path, span))
        for path, span in chosen.space.items()
    }
    name = digest([facts, chosen.model_dump(mode="json", exclude={"trials"})])[:16]
    return SearchPlan(axes, chosen.trials, chosen.sampler, chosen.prune, settings.seed, models / f"search-{name}")


def model_spec(settings: Settings, manifest: Manifest) -> ModelSpec:
    """Return the architecture that the settings ask for on these tensors."""
    model = settings.model
    codes = {name: FIRST_VALUE + len(values) for name, values in manifest.attributes.items()}
    return ModelSpec(
        modalities=manifest.modalities,
        items=manifest.items,
        dim=model.dim,
        fusion=model.fusion,
        fusion_settings=model.fusion_settings,
        user_tower=model.user_tower,
        user_tower_settings=model.user_tower_settings,
        losses={name: weight for name, weight in model.losses.items() if weight > 0},
        loss_settings={name: own for name, own in model.loss_settings.items() if model.losses.get(name)},
        projector_hidden=model.projector_hidden,
        item_id=model.item_id,
        item_id_dropout=model.item_id_dropout,
        modality_dropout=model.modality_dropout,
        token_norm=model.token_norm,
        max_norm=model.max_norm,
        head=model.head,
        head_settings=model.head_settings,
        users=manifest.users,
        user_attributes=codes if model.user_attributes else {},
        user_attribute_dropout=model.user_attribute_dropout,
        user_id=model.user_id or model.user_tower == "id",
        user_id_dropout=model.user_id_dropout,
    )


def training_plan(
    settings: Settings, manifest: Manifest, folder: Location, progress: Location, protocol: str
) -> TrainingPlan:
    """Return what the ranks are told; `progress` is the file of their lines."""
    metric, k = _watched(settings)
    return TrainingPlan(
        tensors=manifest.folder,
        folder=folder,
        progress=progress,
        spec=model_spec(settings, manifest),
        seed=settings.seed,
        metric_k=k,
        metric=metric,
        teacher=None,
        ids_in_validation=protocol == "warm",
        **settings.train.model_dump(exclude={"metric", *OF_THE_RUN}),
    )


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


def _limits(settings: Settings, master: str) -> Limits:
    """Return how patient a training is; raises SettingsError where Spark would not bring a lost rank back."""
    chosen = settings.train
    if chosen.elastic and re.fullmatch(r"local(\[[^,\]]*\])?", master):
        raise SettingsError(
            f"train.elastic needs a Spark that survives a failed task, master {master} does not",
            "use a cluster, --master local-cluster[2,1,1024] or --master local[N,4], or set train.elastic to false",
        )
    least = chosen.min_ranks if chosen.elastic else None
    return Limits(chosen.start_timeout_seconds, chosen.stall_warn_seconds, chosen.stall_seconds, least)


def blend_plan(settings: Settings, workers: Workers) -> BlendPlan:
    """Return what the closed-form side is told; `workers` serve the models that need Spark."""
    metric, k = _watched(settings)
    return BlendPlan(
        collaborative={name: own for name, own in settings.model.collaborative.items() if own is not None},
        content_map=_content_map(settings),
        search_map=settings.model.content_map_search,
        metric=metric,
        metric_k=k,
        seed=settings.seed,
        workers=workers,
    )


def _content_map(settings: Settings) -> ContentMapSettings:
    try:
        return ContentMapSettings(**settings.model.content_map)
    except TypeError as error:
        raise SettingsError(f"model.content_map: {error}", "it takes the fields of ContentMapSettings") from error


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


def _watched(settings: Settings) -> tuple[ListMetric, int]:
    """Return the validation metric and its K."""
    name, k = settings.train.metric.split("@")
    return functools.partial(_metric, name, int(k)), int(k)


def _metric(name: str, k: int, recommended_UK: np.ndarray, relevant: list[np.ndarray]) -> np.ndarray:
    """Return one metric a user; it travels to the ranks, which do not know the evaluation."""
    return ranking_metrics(recommended_UK, Relevance.from_lists(relevant), [k], (name,))[f"{name}@{k}"]


@contextmanager
def _show_progress(context: StageContext, plan: TrainingPlan, label: str) -> Iterator[None]:
    """Follow the lines that rank 0 writes, one an epoch."""
    progress = context.progress(label, plan.max_epochs, "epochs")
    done = threading.Event()
    epochs = 0

    def follow() -> None:
        nonlocal epochs
        seen, metric, ended = 0, "", False
        while not ended:
            ended = done.wait(LOOK_SECONDS)  # and once more after the end
            lines = plan.progress.text().splitlines() if plan.progress.is_file() else []
            for line in lines[seen:]:
                entry = json.loads(line)
                if "warning" in entry:
                    log.warning(entry["warning"])
                    continue
                epochs = entry["epoch"]
                if "metric" in entry:
                    metric = f" · {context.settings.train.metric} {entry['metric']:.4f}"
                progress.update(epochs, f"loss {entry['loss']:.4f}{metric}")
            seen = len(lines)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        progress.close(epochs)
