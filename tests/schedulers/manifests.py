"""The manifests, and what of the Spark operator's custom resource we use.

The shapes are written by us from the operator's public API v1beta2 for the fields that our manifest has, and no others:
an unknown field is an error here, where the operator would drop it without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from support import REPOSITORY

FOLDER = REPOSITORY / "conf" / "schedulers"
QUANTITY = re.compile(r"\d+[kmgt]")

POD = {
    "serviceAccount": str,
    "cores": int,
    "memory": QUANTITY,
    "memoryOverhead": QUANTITY,
    "configMaps": [{"name": str, "path": str}],
    "envFrom": [{"secretRef": {"name": str}}],
}
SCHEDULED_SPARK_APPLICATION = {
    "apiVersion": re.compile(r"sparkoperator\.k8s\.io/v1beta2"),
    "kind": re.compile("ScheduledSparkApplication"),
    "metadata": {"name": str},
    "spec": {
        "schedule": re.compile(r"\S+ \S+ \S+ \S+ \S+"),
        "concurrencyPolicy": re.compile("Allow|Forbid|Replace"),
        "successfulRunHistoryLimit": int,
        "failedRunHistoryLimit": int,
        "template": {
            "type": re.compile("Java|Python|Scala|R"),
            "pythonVersion": re.compile("2|3"),
            "mode": re.compile("cluster|client"),
            "sparkVersion": str,
            "image": str,
            "imagePullPolicy": re.compile("Always|IfNotPresent|Never"),
            "mainApplicationFile": str,
            "arguments": [str],
            "restartPolicy": {"type": re.compile("Never|Always|OnFailure")},
            "sparkConf": {re.compile(r"spark\.[\w.]+"): str},
            "driver": POD,
            "executor": {name: POD[name] for name in ("cores", "memory", "memoryOverhead")} | {"instances": int},
        },
    },
}


def documents(file: str) -> list[dict[str, Any]]:
    """Return the documents of a manifest."""
    return list(yaml.safe_load_all((FOLDER / file).read_text(encoding="utf-8")))


def of_kind(file: str, kind: str, name: str = "crossweave") -> dict[str, Any]:
    """Return the one document of a kind and name."""
    (found,) = (one for one in documents(file) if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def faults(value: Any, shape: Any, at: str = "") -> Iterator[str]:
    """Name all that is not of a shape: every field of a mapping must be known and there, every value of its type."""
    if isinstance(shape, dict):
        patterns = [name for name in shape if isinstance(name, re.Pattern)]
        if not isinstance(value, dict):
            yield f"{at} is no mapping"
            return
        yield from (f"{at}.{name} is missing" for name in shape if isinstance(name, str) and name not in value)
        for name, inner in value.items():
            known = name if name in shape else next((one for one in patterns if one.fullmatch(name)), None)
            if known is None:
                yield f"{at}.{name} is no field"
            else:
                yield from faults(inner, shape[known], f"{at}.{name}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{at} is no list"
            return
        for number, inner in enumerate(value):
            yield from faults(inner, shape[0], f"{at}[{number}]")
    elif isinstance(shape, re.Pattern):
        if not (isinstance(value, str) and shape.fullmatch(value)):
            yield f"{at} is {value!r}"
    elif type(value) is not shape:
        yield f"{at} is {value!r}, which is no {shape.__name__}"
