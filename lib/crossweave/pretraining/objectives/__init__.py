"""What an encoder can learn from: every objective is one module and one line in `OBJECTIVES`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossweave.pretraining.objectives.base import Objective

OBJECTIVES = {
    "masked": "crossweave.pretraining.objectives.masked:Masked",
    "causal": "crossweave.pretraining.objectives.causal:Causal",
    "behaviour": "crossweave.pretraining.objectives.behaviour:Behaviour",
}


def find_objective(name: str) -> type[Objective[Any]]:
    """Return an objective's class."""
    module, _, member = OBJECTIVES[name].partition(":")
    found: type[Objective[Any]] = getattr(importlib.import_module(module), member)
    return found
