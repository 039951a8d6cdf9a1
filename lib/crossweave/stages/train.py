"""Train: the alignment model under Horovod, on the tensors of the last tensors stage."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from crossweave.alignment import COLLABORATIVE, FUSIONS, LOSSES, USER_TOWERS, find
from crossweave.alignment.blend import FOLDER, save_members
from crossweave.alignment.collaborative.content_map import ContentMapSettings
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.store import load_weights
from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.evaluation.metrics import Relevance, ranking_metrics
from crossweave.feeding.interactions import read_interactions
from crossweave.feeding.items import forget_items, open_items
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.run import StageContext
from crossweave.tables.files import digest, write_json
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.training.blending import BlendOutcome, BlendPlan, fit_blend
from crossweave.training.collective import run_ranks
from crossweave.training.loop import train
from crossweave.training.plan import ListMetric, TrainingPlan

STAGE = "train"
CODE_VERSION = 2


def check_model(settings: Settings) -> None:
    """Raise SettingsError for a part that does not exist, or settings of the content map that it does not have."""
    find(FUSIONS, "fusion", settings.model.fusion)
    find(USER_TOWERS, "user tower", settings.model.user_tower)
    for name in (*settings.model.losses, *settings.model.loss_settings):
        find(LOSSES, "loss", name)
    for name in settings.model.collaborative:
        find(COLLABORATIVE, "collaborative model", name)
    _content_map(settings)
    if not settings.modalities and not settings.model.item_id:
        raise SettingsError("there is nothing to learn from: no modality, and model.item_id is false")


def train_alignment(context: StageContext, record: StageRecord) -> None:
    """Train, or find that the model of these tensors and settings is there.

    Writes a folder `models/FINGERPRINT` with model.safetensors and model.json. An interrupted training goes on from
    its last checkpoint.
    """
    settings = context.settings
    check_model(settings)
    receipts = Receipts(context.workspace)
    tensors = receipts.required("tensors")
    manifest, spec, fingerprint = _inputs(context)
    folder = _folder(context, fingerprint)
    last = receipts.latest(STAGE)
    record.reads = tensors.writes
    if last is not None and is_current(context):
        record.nothing_to_do(last.rows, record.reads, "the model of these tensors and settings is there")
        return
    folder.mkdir(parents=True, exist_ok=True)
    plan = _plan(context, spec, manifest, folder, tensors.details["protocol"])
    local = str(context.spark.sparkContext.master).startswith("local")
    with _show_progress(context, plan):
        outcome = run_ranks(
            train, plan, plan.ranks, settings.train.start_timeout_seconds, context.folder / "ranks", loopback=local
        )
    blend = _blend(context, manifest, spec, folder)
    forget_items(manifest)
    write_json(
        folder / "model.json",
        {
            "spec": spec.as_json(),
            "tensors": manifest.folder.name,
            "metric": settings.train.metric,
            "best_metric": outcome.best_metric,
            "best_epoch": outcome.best_epoch,
            "curves": outcome.curves,
            FOLDER: save_members(folder, blend.members),
            "content_map": blend.found.settings.as_json() if blend.found is not None else None,
        },
    )
    rows = manifest.rows("sequences")
    record.ledgers = {"sequences": Ledger(rows_in=rows, rows_out=rows)}
    record.metrics = {
        f"validation_{settings.train.metric}": outcome.best_metric,
        "best_epoch": outcome.best_epoch,
        "epochs": outcome.epochs,
        "steps": outcome.steps,
        "resumed_from_epoch": outcome.resumed_from,
    }
    record.note = (
        f"validation {settings.train.metric} {outcome.best_metric:.4f} at epoch {outcome.best_epoch}"
        f" of {outcome.epochs}"
    )
    if blend.metric is not None:
        record.metrics[f"validation_{settings.train.metric}_blend"] = blend.metric
        record.note += f", {blend.metric:.4f} with {', '.join(m.name for m in blend.members) or 'nothing'} blended in"
    if blend.found is not None:
        record.metrics["content_map"] = blend.found.metric
    record.note += f" · {folder}"
    receipts.publish(
        Receipt(
            STAGE,
            fingerprint,
            context.run_id,
            record.reads,
            {},
            rows,
            {"folder": folder.name, "tensors": manifest.fingerprint},
        )
    )


def is_current(context: StageContext) -> bool:
    """Say whether the model of tonight's tensors and settings is there."""
    last = Receipts(context.workspace).latest(STAGE)
    fingerprint = _inputs(context)[2]
    return (
        last is not None
        and last.fingerprint == fingerprint
        and (_folder(context, fingerprint) / "model.json").is_file()
    )


def _inputs(context: StageContext) -> tuple[Manifest, ModelSpec, str]:
    """Return the tensors, the architecture and the fingerprint of all that decides the model."""
    settings = context.settings
    details = Receipts(context.workspace).required("tensors").details
    manifest = load_manifest(context.workspace / "tensors" / details["folder"])
    if manifest is None:
        raise SettingsError("the tensor set of the last tensors stage is gone", "run ./submit.sh tensors")
    spec = _spec(settings, manifest)
    facts = {
        "code": CODE_VERSION,
        "tensors": manifest.fingerprint,
        "model": spec.as_json(),
        "blend": [settings.model.collaborative, settings.model.content_map, settings.model.content_map_search],
        "train": settings.train.model_dump(mode="json", exclude={"start_timeout_seconds", "keep_checkpoints"}),
        "seed": settings.seed,
    }
    return manifest, spec, digest(facts)


def _folder(context: StageContext, fingerprint: str) -> Path:
    return context.workspace / "models" / fingerprint[:16]


def _spec(settings: Settings, manifest: Manifest) -> ModelSpec:
    model = settings.model
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
    )


def _plan(context: StageContext, spec: ModelSpec, manifest: Manifest, folder: Path, protocol: str) -> TrainingPlan:
    train_settings = context.settings.train
    metric, k = _watched(context.settings)
    return TrainingPlan(
        tensors=manifest.folder,
        folder=folder,
        progress=context.folder / "training.jsonl",
        spec=spec,
        seed=context.settings.seed,
        metric_k=k,
        metric=metric,
        ids_in_validation=protocol == "warm",
        **train_settings.model_dump(exclude={"metric", "start_timeout_seconds"}),
    )


def _content_map(settings: Settings) -> ContentMapSettings:
    try:
        return ContentMapSettings(**settings.model.content_map)
    except TypeError as error:
        raise SettingsError(f"model.content_map: {error}", "it takes the fields of ContentMapSettings") from error


def _blend(context: StageContext, manifest: Manifest, spec: ModelSpec, folder: Path) -> BlendOutcome:
    """Fit the collaborative models in this process: closed forms, of one machine's size by their settings."""
    settings = context.settings
    metric, k = _watched(settings)
    plan = BlendPlan(
        collaborative={name: own for name, own in settings.model.collaborative.items() if own is not None},
        content_map=_content_map(settings),
        search_map=settings.model.content_map_search,
        metric=metric,
        metric_k=k,
        seed=settings.seed,
    )
    progress = context.progress("blend", len(plan.collaborative) + 1, "models")
    done = 0

    def tick(what: str) -> None:
        nonlocal done
        progress.update(min(done, len(plan.collaborative)), what)
        done += 1

    model = load_weights(spec, folder)
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
def _show_progress(context: StageContext, plan: TrainingPlan) -> Iterator[None]:
    """Follow the lines that rank 0 writes, one an epoch."""
    progress = context.progress("train", plan.max_epochs, "epochs")
    done = threading.Event()
    epochs = 0

    def follow() -> None:
        nonlocal epochs
        seen, metric = 0, ""
        while not done.wait(0.5):
            lines = plan.progress.read_text(encoding="utf-8").splitlines() if plan.progress.is_file() else []
            for line in lines[seen:]:
                entry = json.loads(line)
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
