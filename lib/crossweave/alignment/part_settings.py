"""The settings of parts, judged by each part's own signature before anything is started."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import pydantic
import torch

from crossweave.alignment import COLLABORATIVE, FUSIONS, HEADS, LOSSES, USER_TOWERS, find
from crossweave.alignment.collaborative.content_map import ContentMapSettings
from crossweave.errors import SettingsError

SHAPE = ("dim", "modalities")
"""Arguments that a model gives its parts: no settings."""


class ModelChoice(Protocol):
    """The section `model` of the settings."""

    dim: int
    fusion: str
    fusion_settings: dict[str, Any]
    user_tower: str
    user_tower_settings: dict[str, Any]
    head: str
    head_settings: dict[str, Any]
    losses: dict[str, float]
    loss_settings: dict[str, dict[str, Any]]
    collaborative: dict[str, dict[str, Any] | None]
    content_map: dict[str, Any]


def check_call(call: Callable[..., Any], given: Mapping[str, Any], path: str, leave: Collection[str] = ()) -> None:
    """Raise SettingsError, naming the setting by its path, where settings do not fit a callable's signature.

    `leave` names arguments that are no settings.
    """
    target = call.__init__ if inspect.isclass(call) else call
    hints = typing.get_type_hints(target, include_extras=True)
    known = {
        name: (hints.get(name, Any), ... if one.default is inspect.Parameter.empty else one.default)
        for name, one in inspect.signature(call).parameters.items()
        if name not in leave
    }
    strict = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    model = pydantic.create_model("Settings", __config__=strict, **known)  # type: ignore[call-overload]
    try:
        model.model_validate(dict(given))
    except pydantic.ValidationError as error:
        lines = "; ".join(_explain(item, path, sorted(known)) for item in error.errors())
        raise SettingsError(lines, f"settings there: {', '.join(sorted(known)) or 'none'}") from error


def _explain(item: Mapping[str, Any], path: str, known: list[str]) -> str:
    place = ".".join([path, *(str(part) for part in item["loc"])])
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=2)
        return f"unknown setting {place}" + (f" (did you mean {' or '.join(near)}?)" if near else "")
    if item["type"] == "missing":
        return f"{place} is required"
    return f"{place}: {item['msg']}, got {item['input']!r:.100}"


def check_parts(model: ModelChoice, modalities: Collection[str]) -> None:
    """Raise SettingsError for the first part that does not exist, or whose settings it cannot be built with."""
    shape = {"dim": model.dim, "modalities": max(1, len(modalities))}
    _check_built(find(FUSIONS, "fusion", model.fusion), model.fusion_settings, "model.fusion_settings", shape)
    tower = find(USER_TOWERS, "user tower", model.user_tower)
    _check_built(tower, model.user_tower_settings, "model.user_tower_settings", {"dim": model.dim})
    _check_built(find(HEADS, "head", model.head), model.head_settings, "model.head_settings", {"dim": model.dim})
    for name in {*model.losses, *model.loss_settings}:
        loss = find(LOSSES, "loss", name)
        _check_built(loss, model.loss_settings.get(name, {}), f"model.loss_settings.{name}", shape)
    if not any(weight > 0.0 for weight in model.losses.values()):
        raise SettingsError("model.losses: expected a loss with a weight above 0, there is none")
    for name, own in model.collaborative.items():
        kind = find(COLLABORATIVE, "collaborative model", name)
        given = ("seen_UN", *kind.needs)
        check_call(kind.fit, own or {}, f"model.collaborative.{name}", given)
    check_content_map(model.content_map, modalities)


def check_content_map(given: Mapping[str, Any], modalities: Collection[str]) -> None:
    """Raise SettingsError for settings that the content map does not take."""
    check_call(ContentMapSettings, given, "model.content_map")
    unknown = sorted(set(given.get("shares", {})) - set(modalities))
    if unknown:
        near = difflib.get_close_matches(unknown[0], modalities, n=1)
        raise SettingsError(
            f"model.content_map.shares.{unknown[0]} names no modality"
            + (f" (did you mean {near[0]}?)" if near else ""),
            f"modalities: {', '.join(modalities) or 'none'}",
        )


def _check_built(part: Callable[..., Any], given: Mapping[str, Any], path: str, shape: Mapping[str, int]) -> None:
    check_call(part, given, path, SHAPE)
    try:
        with torch.device("meta"):  # costs neither memory nor random numbers
            part(*shape.values(), **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingsError(f"{path}: {str(error).splitlines()[0]}", "see docs/model.md") from error
