"""What the settings are before they are typed: plain mappings, lists and scalars, read from YAML and laid over another.

Here is refused what no setting can be, wherever it stands: that saves every section from asking.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crossweave.errors import SettingsError
from crossweave.storage.location import Location, is_url

MOST_BYTES = 4_000_000
LARGEST = 2**63 - 1
TORN = (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AssertionError, RecursionError)
"""What OmegaConf and its YAML reader raise over text that somebody may have written."""
FREE_TEXT = re.compile(r"encoders\.|score\.rules\.(allow|block)\.|model\.(\w+_settings|collaborative|content_map)\b")
"""Settings below which an empty string may mean something."""
PLACE = re.compile(
    r"workspace|inputs\.root|inputs\.\w+\.path|weights\.root|export\.path|encoders\..+\.(path|root|folder)"
)
"""Settings that name a file or folder."""
ANY_STORE = re.compile(r"workspace|inputs\.root|inputs\.\w+\.path|export\.path")
"""Those of them that may lie in any store."""
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_file(path: Path) -> Any:
    """Return what a settings file holds; raises SettingsError naming the file where it cannot be read."""
    hint = "check the path given to --conf"
    try:
        if path.is_dir():
            raise SettingsError(f"the settings file {path} is a folder", hint)
        if not path.is_file():
            raise SettingsError(f"the settings file {path} does not exist", hint)
        if path.stat().st_size > MOST_BYTES:
            raise SettingsError(f"the settings file {path} is larger than {MOST_BYTES:,} bytes", hint)
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}", hint) from error
    try:
        return read_text(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not readable as YAML: it is not UTF-8 text", "save it as UTF-8") from error
    except TORN as error:
        raise SettingsError(f"{path} is not readable as YAML: {first_line(error)}") from error


def read_text(text: str) -> Any:
    """Return what YAML text holds, interpolations unresolved. Raises one of TORN."""
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)


def read_pair(pair: str) -> Any:
    """Return the sections of one `section.key=value`; raises SettingsError where it is none."""
    key, separator, value = pair.partition("=")
    if not separator or not key.strip():
        raise SettingsError(f"--set takes section.key=value, got {short(pair)}")
    if not value.strip():
        raise SettingsError(
            f"--set {pair}: there is no value behind the =", "write null for none, '' for an empty text"
        )
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"{key.strip()}={value}"]), resolve=False)
    except TORN as error:
        raise SettingsError(f"--set {pair}: the value is not readable as YAML: {first_line(error)}") from error


def merged(base: Mapping[Any, Any], over: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the settings with others laid over them: sections are merged, all else is replaced."""
    whole = dict(base)
    for key, value in over.items():
        below = whole.get(key)
        whole[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return whole


def resolved(plain: Mapping[Any, Any]) -> Any:
    """Return the settings with their interpolations resolved; raises SettingsError where one leads nowhere."""
    try:
        return OmegaConf.to_container(OmegaConf.create(plain), resolve=True, throw_on_missing=True)
    except TORN as error:
        raise SettingsError(f"the settings refer to something that is not there: {first_line(error)}") from error


def sound(plain: Any) -> Any:
    """Return the settings with places as plain paths.

    Raises SettingsError for every value that no setting can have: an infinite or undefined number, one beyond 64 bits,
    text with a null byte, empty where a name or a path belongs, a place with a scheme that is not served.
    """
    wrong: list[str] = []
    whole = _walked(plain, "", lambda path, value: _sound(path, value, wrong))
    if wrong:
        raise SettingsError("; ".join(wrong), "conf/base.yaml lists every setting with its meaning")
    return whole


def _walked(value: Any, path: str, look: Callable[[str, Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _walked(below, f"{path}.{key}" if path else str(key), look) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_walked(below, f"{path}.{place}", look) for place, below in enumerate(value)]
    return look(path, value)


def _sound(path: str, value: Any, wrong: list[str]) -> Any:
    try:
        if isinstance(value, str):
            return _text(path, value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {value}")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError("expected a number of at most 64 bits")
        if not isinstance(value, int | float | None):
            raise ValueError(f"expected text, a number, true, false or null, got {type(value).__name__}")
    except ValueError as error:
        wrong.append(f"{path}: {error}")
    return value


def _text(path: str, value: str) -> str:
    if "\0" in value:
        raise ValueError("text cannot hold a null byte")
    if value == "???":
        raise ValueError("??? stands for a value that is missing")  # whoever reads it back is told so by OmegaConf
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("expected text that UTF-8 can hold") from error
    if not value.strip() and not FREE_TEXT.match(path):
        raise ValueError("expected a name or a path, got an empty text")
    return _place(value, bool(ANY_STORE.fullmatch(path))) if PLACE.fullmatch(path) else value


def _place(place: str, any_store: bool) -> str:
    """Return a place of this file system without its scheme. Raises ValueError for one that no store can have."""
    if place.startswith("~"):
        raise ValueError(f"a leading ~ is the shell's, write the whole path, got {short(place)}")
    if not is_url(place):
        return place
    parts = urlsplit(place)
    if parts.scheme.lower() != "file" and any_store:
        return _in_store(place)
    if parts.scheme.lower() != "file":
        raise ValueError(f"the scheme {parts.scheme}:// is not served, only paths and file:/// are, got {short(place)}")
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ValueError(f"expected file:///FOLDER, got {short(place)}")
    return unquote(parts.path)


def _in_store(place: str) -> str:
    """Return a URL as it is. Raises ValueError where it leads to no store."""
    try:
        found = Location.of(place)
    except SettingsError as error:
        raise ValueError(f"{error.message}: {error.hint}") from error
    if found.scheme in ("s3", "gs") and not BUCKET.fullmatch(found.host):
        raise ValueError(
            "expected s3://BUCKET/PATH or gs://BUCKET/PATH, with the name of a bucket and nothing beside it"
        )
    return place


def short(value: Any) -> str:
    """Return a value as a message can hold it."""
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:197]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
