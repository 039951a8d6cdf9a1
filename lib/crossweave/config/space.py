"""The space of a search: checks that every setting it names exists and takes the values that it may be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crossweave.config.load import override
from crossweave.config.schema import Settings
from crossweave.config.search import SearchRange
from crossweave.errors import SettingsError

SECTIONS = ("model", "train")  # what decides the tensors would need other stages in every trial
FIXED = ("train.metric", "train.start_timeout_seconds", "train.keep_checkpoints")


def trial_settings(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return the whole settings of one trial; they ask for no search of their own. Raises SettingsError."""
    budget = {"train.max_epochs": settings.search.max_epochs} if settings.search.max_epochs else {}
    return override(settings, {**budget, **values, "search.trials": 0}, "search.space")


def settled(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return the settings with these values and without a search: what a training with the full budget takes."""
    return override(settings, {**values, "search.trials": 0}, "search.space")


def check_space(settings: Settings, check: Callable[[Settings], None] = lambda settings: None) -> None:
    """Raise SettingsError for the first entry of `search.space` that is unknown, not for a search, or out of range.

    `check` may refuse whole settings, as the training would.
    """
    for path, span in settings.search.space.items():
        for value in span.ends:
            try:
                check(trial_settings(settings, {path: value}))
            except SettingsError as error:
                raise SettingsError(f"search.space.{path}: {error.message}", error.hint) from error
        if path.partition(".")[0] not in SECTIONS or path in FIXED:
            raise SettingsError(
                f"search.space.{path} cannot be searched",
                f"a search varies settings of {' and '.join(SECTIONS)}, but {', '.join(FIXED)}",
            )
        if path == "train.max_epochs" and settings.search.max_epochs:
            raise SettingsError("search.space.train.max_epochs and search.max_epochs decide the same", "drop one")


def is_whole(settings: Settings, path: str, span: SearchRange) -> bool:
    """Say whether a range is one of whole numbers: by the setting's own type; as it is written where that is open."""
    return all(isinstance(_taken(settings, path, value), int) for value in span.ends)


def _taken(settings: Settings, path: str, value: Any) -> Any:
    """Return what a setting becomes when it is given this value."""
    taken: Any = trial_settings(settings, {path: value}).model_dump()
    for part in path.split("."):
        taken = taken[part]
    return taken
