"""Loads the settings: `conf/base.yaml`, then files in their order, then `section.key=value` pairs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from crossweave.config.plain import merged, read_file, read_pair, read_text, resolved, short, sound
from crossweave.config.saved import references, refuse_redacted, remember_secrets, saved_settings
from crossweave.config.schema import Place, Settings
from crossweave.errors import SettingsError

REPOSITORY_CONF = Path(__file__).resolve().parents[3] / "conf"
"""Where the conf folder lies in a checkout; a packed zip carries base.yaml inside the package instead."""
SECOND_GUESS = 0.1  # how much less alike than the nearest setting another one may be, to be named too


def load_settings(files: Sequence[str | Path] = (), pairs: Sequence[str] = ()) -> Settings:
    """Merge and check the settings.

    Relative paths in `workspace`, `inputs` and `weights` stay relative to the working folder; OmegaConf
    interpolation (`${inputs.root}`) is resolved after the merge.
    Raises SettingsError naming the key, what was expected and near matches.
    """
    whole = read_text(_base_text())
    for file in files:
        whole = _over(whole, read_file(Path(file)), str(file))
    for pair in pairs:
        whole = _over(whole, read_pair(pair), f"--set {pair}")
    remember_secrets(whole)
    plain, kept = resolved(whole), references(whole)
    refuse_redacted(plain)
    return _validate(plain).referring(kept)


def override(settings: Settings, values: Mapping[str, Any], source: str) -> Settings:
    """Lay `section.key: value` pairs over settings, merged and checked like a settings file.

    Raises SettingsError naming the key, what was expected and near matches.
    """
    kept = {p: text for p, text in settings.references.items() if not _is_laid_over(p, values)}
    return _validate(_over(settings.model_dump(mode="json"), nested(values), source)).referring(kept)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `section.key: value` pairs into the mapping of mappings that a settings file holds."""
    whole: dict[str, Any] = {}
    for path, value in values.items():
        *above, name = path.split(".")
        place = whole
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise SettingsError(f"{path} lies below a setting that is given a value itself", "drop one of the two")
        place[name] = value
    return whole


def settings_yaml(settings: Settings) -> str:
    """The resolved settings as YAML text, the form that is saved with every run.

    What comes from the environment stays a reference to it, and secrets are left out.
    """
    # By the writer that goes with the reader: others leave a text such as 1e5 bare, which OmegaConf reads as a number.
    return OmegaConf.to_yaml(OmegaConf.create(saved_settings(settings)))


def _is_laid_over(place: Place, values: Mapping[str, Any]) -> bool:
    name = ".".join(map(str, place))
    return any(name == path or name.startswith(f"{path}.") for path in values)


def _base_text() -> str:
    packed = resources.files("crossweave").joinpath("conf/base.yaml")
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    return (REPOSITORY_CONF / "base.yaml").read_text(encoding="utf-8")


def _over(base: dict[Any, Any], over: Any, source: str) -> dict[Any, Any]:
    if not isinstance(over, Mapping):
        raise SettingsError(f"{source} must hold sections of settings, not a list or a plain value")
    return merged(base, over)


def _validate(plain: Any) -> Settings:
    try:
        return Settings.model_validate(sound(plain))
    except ValidationError as error:
        raise _explain(error, plain) from error


def _explain(error: ValidationError, plain: Any) -> SettingsError:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown setting {path}{_near(path)}")
        elif item["type"] == "missing":
            lines.append(f"{path} is required")
        else:
            got = "" if isinstance(item["input"], Mapping | BaseModel) else f", got {short(item['input'])}"
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {message}{got}" if path else message)
    return SettingsError("; ".join(lines), "conf/base.yaml lists every setting with its meaning")


def _near(path: str) -> str:
    known = [".".join(loc) for loc in _paths(Settings)]
    last = path.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(path, known, n=2, cutoff=0.75)
    # A shared section makes every setting of it alike: the second is named only where it is nearly as close.
    like = [difflib.SequenceMatcher(None, name, path).ratio() for name in close]
    close = [name for name, ratio in zip(close, like, strict=True) if ratio > like[0] - SECOND_GUESS]
    close += [k for k in known if k.rsplit(".", 1)[-1] == last and k not in close][:2]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _paths(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, (*prefix, name))
