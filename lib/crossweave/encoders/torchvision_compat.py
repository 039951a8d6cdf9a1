"""Makes torchvision importable beside a CPU build of torch; used before torchvision and transformers are imported.

torchvision registers Python kernels for operators whose schemas live in its compiled library. Where that library
cannot be loaded the schemas are missing, and the import dies with "operator torchvision::nms does not exist".
Declaring the schemas first lets it pass; the operators themselves (box suppression) are not used by encoders.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def import_torchvision() -> Any:
    """The torchvision package, with `models` and `models.feature_extraction` imported."""
    define_missing_schemas()
    importlib.import_module("torchvision.models.feature_extraction")
    return importlib.import_module("torchvision")


def define_missing_schemas() -> list[str]:
    """Declare the operator schemas that this torch does not know yet, and return their names."""
    if "torchvision" in sys.modules:
        return []
    _load_compiled_operators()
    missing = [name for name in _SCHEMAS if not _is_defined(name)]
    for name in missing:
        torch.library.define(name, _SCHEMAS[name])
    return missing


def _load_compiled_operators() -> None:
    """Where torchvision's library fits this torch it declares the schemas itself, and must come first:
    a schema declared twice is an error."""
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in Path(folder).glob("_C*.so"):
            with contextlib.suppress(OSError):
                torch.ops.load_library(str(library))


def _is_defined(name: str) -> bool:
    namespace, _, operator = name.partition("::")
    return hasattr(getattr(torch.ops, namespace), operator)
