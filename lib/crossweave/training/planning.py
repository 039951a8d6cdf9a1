"""From settings and tensors to what is trained: the model, the plan of the ranks, their limits, and the blend."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from crossweave.alignment import HEADS, USER_TOWERS, find
from crossweave.alignment.attention import TargetAware
from crossweave.alignment.collaborative.content_map import ContentMapSettings
from crossweave.alignment.part_settings import check_parts
from crossweave.alignment.spec import ModelSpec
from crossweave.config import Settings
from crossweave.config.space import check_space
from crossweave.errors import SettingsError
from crossweave.evaluation.metrics import Relevance, ranking_metrics
from crossweave.feeding.manifest import Manifest
from crossweave.storage.location import Location
from crossweave.tables.user_attributes import FIRST_VALUE
from crossweave.training.blending import BlendPlan, Workers
from crossweave.training.collective import Limits
from crossweave.training.plan import ListMetric, TrainingPlan

CODE_VERSION = 4
OF_THE_RUN = {"start_timeout_seconds", "stall_warn_seconds", "stall_seconds", "elastic", "min_ranks"}
OF_THE_MACHINE = {"device", "keep_checkpoints", "checkpoint_minutes"}
"""Settings of the training that do not decide the model; its ranks are not told the former."""


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


def model_facts(settings: Settings, manifest: Manifest) -> dict[str, Any]:
    """Return what decides the model of one training."""
    return {
        "code": CODE_VERSION,
        "tensors": manifest.fingerprint,
        "model": model_spec(settings, manifest).as_json(),
        "blend": [settings.model.collaborative, settings.model.content_map, settings.model.content_map_search],
        "train": settings.train.model_dump(mode="json", exclude={*OF_THE_RUN, *OF_THE_MACHINE}),
        "seed": settings.seed,
    }


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
    metric, k = watched(settings)
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


def rank_limits(settings: Settings, master: str) -> Limits:
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
    metric, k = watched(settings)
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


def watched(settings: Settings) -> tuple[ListMetric, int]:
    """Return the validation metric and its K."""
    name, k = settings.train.metric.split("@")
    return functools.partial(_metric, name, int(k)), int(k)


def _metric(name: str, k: int, recommended_UK: np.ndarray, relevant: list[np.ndarray]) -> np.ndarray:
    """Return one metric a user; it travels to the ranks, which do not know the evaluation."""
    return ranking_metrics(recommended_UK, Relevance.from_lists(relevant), [k], (name,))[f"{name}@{k}"]
