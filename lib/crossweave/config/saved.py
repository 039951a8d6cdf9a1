"""The settings as they are saved and shown: references to the environment stay references, secrets are left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from crossweave.config.schema import Place, Settings
from crossweave.errors import SettingsError
from crossweave.redaction import HIDDEN, credentials_in, names_a_secret, remember, without_credentials

USERS_NAMES = frozenset({"derived", "allow", "block", "at_most", "segments", "modalities", "encoders"})
USERS_NAMES |= {"columns", "shares", "space"}
"""Sections whose keys are names that users gave: a column called `key` is none."""
_DEFAULT = re.compile(r"(\$\{\s*oc\.env:\s*([^,}\s]+)\s*,)([^}]*)(\})")
_REFERENCE = re.compile(r"(\\*)\$\{")
"""What would be read back as a reference; of backslashes in front of one, OmegaConf takes two for one."""
_asked: list[str] = []  # variables that were read from the environment since the list was emptied


def _read_environment(name: str, *default: Any) -> str | None:
    value: str | None = oc.env(name, *default)
    _asked.append(name)
    if value is not None and name in os.environ:
        remember(value, f"${{oc.env:{name}}}", named=names_a_secret(name))
    return value


OmegaConf.register_resolver("oc.env", _read_environment, replace=True)


def references(plain: Mapping[Any, Any]) -> dict[Place, str]:
    """Return every setting whose value comes from the environment, be it by way of others, with its text.

    `plain` are the settings with their interpolations, which lead somewhere.
    """
    found = {}
    merged = OmegaConf.create(dict(plain))
    for place, text in _leaves(plain):
        if isinstance(text, str) and "${" in text:
            _asked.clear()
            node: Any = merged
            for key in place:
                node = node[key]
            if isinstance(node, DictConfig):
                OmegaConf.to_container(node, resolve=True)
            if _asked:
                found[place] = text
                if isinstance(node, str) and (_is_secret(place) or any(map(names_a_secret, _asked))):
                    remember(node, named=True)
    return found


def remember_secrets(plain: Any) -> None:
    """Remember the values of settings whose names say that they are secret, and credentials inside of others."""
    for place, value in _leaves(plain):
        given = isinstance(value, str | int | float) and not isinstance(value, bool) and "${" not in str(value)
        if given and _is_secret(place):
            remember(str(value), named=True)
        for each in credentials_in(value) if isinstance(value, str) else ():
            if "${" not in each and HIDDEN not in each:
                remember(each, named=True)


def refuse_redacted(plain: Any) -> None:
    """Raise SettingsError where a value was left out when the settings were saved, and is not given anew."""
    lost = [".".join(map(str, place)) for place, value in _leaves(plain) if isinstance(value, str) and HIDDEN in value]
    if lost:
        raise SettingsError(
            f"{', '.join(lost)}: the value was left out where these settings were saved, since it is secret",
            "give it again with --set, or better as ${oc.env:NAME}, which is saved as it is",
        )


def saved_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values that may be saved, shown and told, and that load as the same settings."""
    saved: dict[str, Any] = _without_secrets(settings.model_dump(mode="json"), ())
    for place, text in settings.references.items():
        *above, last = place
        node: Any = saved
        for key in above:
            node = node[key]
        node[last] = without_credentials(_without_fallback(text, _is_secret(place)))
    return saved


def _without_fallback(text: str, secret: bool) -> str:
    """Leave out what stands in for a variable that is not there, where it is secret."""
    hide = lambda found: f"{found[1]}{HIDDEN}{found[4]}" if secret or names_a_secret(found[2]) else found[0]  # noqa: E731
    return _DEFAULT.sub(hide, text)


def _without_secrets(value: Any, place: Place) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(below, (*place, key)) for key, below in value.items()}
    if isinstance(value, list):
        return [_without_secrets(below, (*place, number)) for number, below in enumerate(value)]
    if _is_secret(place) and value not in (None, "") and not isinstance(value, bool):
        return HIDDEN
    return without_credentials(_REFERENCE.sub(r"\1\1\\${", value)) if isinstance(value, str) else value


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(below, (*place, key))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _leaves(below, (*place, number))
    else:
        yield place, value


def _is_secret(place: Place) -> bool:
    """Say whether a setting, or a section that it stands in, has a name that says secret."""
    return any(
        isinstance(name, str) and names_a_secret(name) and not (above and above in USERS_NAMES)
        for above, name in zip(("", *map(str, place)), place, strict=False)
    )
