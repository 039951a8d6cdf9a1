"""Spark's settings files, read as Spark reads them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossweave.errors import SettingsError

OPTIONS = {"--jars": "spark.jars", "--packages": "spark.jars.packages", "--exclude-packages": "spark.jars.excludes"}
_LINE = re.compile(r"\s*([^\s=:]+)\s*[\s=:]?\s*(.*?)\s*$", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}


def read_spark_conf(path: Path) -> dict[str, str]:
    """Return the settings of a file; of a name that stands there twice the last one counts.

    Raises SettingsError where it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the Spark settings file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}",
            "check --spark-conf or CROSSWEAVE_SPARK_CONF",
        ) from error
    found = {}
    for line in re.sub(r"(?<!\\)\\\n\s*", "", text).splitlines():
        match = _LINE.match(line)
        if match and not line.lstrip().startswith(("#", "!")):
            found[match[1]] = _ESCAPED.sub(lambda escaped: _LETTERS.get(escaped[1], escaped[1]), match[2])
    return found


def given_settings(words: Sequence[str]) -> dict[str, str]:
    """Return the settings that the words of a spark-submit name: --conf counts above those of --properties-file."""
    pairs = list(itertools.pairwise(words))
    found: dict[str, str] = {}
    for option, value in pairs:
        if option == "--properties-file":
            found |= read_spark_conf(Path(value))
    for option, value in pairs:
        if option in OPTIONS:
            found[OPTIONS[option]] = value
        elif option in ("--conf", "-c"):
            name, _, text = value.partition("=")
            found[name] = text
    return found


def spark_conf_text(settings: Mapping[str, str]) -> str:
    """Return settings as the text of such a file."""
    lines = (f"{name} {_escaped(value)}" for name, value in settings.items())
    return "".join(f"{line}\n" for line in lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
