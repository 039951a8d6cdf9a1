"""The alignment model: fusions, losses and user towers, each one module and one line here."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from crossweave.errors import SettingsError

# Explicit dicts: a registry filled by decorators is empty on an executor that never imported the module.
FUSIONS: dict[str, str] = {
    "attention": "crossweave.alignment.fusions.attention:AttentionFusion",
}
LOSSES: dict[str, str] = {
    "infonce": "crossweave.alignment.losses.infonce:InfoNCE",
    "sampled_softmax": "crossweave.alignment.losses.sampled_softmax:SampledSoftmax",
}
USER_TOWERS: dict[str, str] = {
    "history_attention": "crossweave.alignment.towers.history_attention:HistoryAttention",
}


def build(registry: Mapping[str, str], what: str, name: str, *shape: int, **settings: Any) -> Any:
    """Build a part by its name in a registry; raises SettingsError for an unknown name or unfit settings."""
    part = find(registry, what, name)
    try:
        return part(*shape, **settings)
    except TypeError as error:
        raise SettingsError(f"{what} {name}: {error}", f"see the arguments of {registry[name]}") from error


def find(registry: Mapping[str, str], what: str, name: str) -> Any:
    """Return a part's class; raises SettingsError naming the valid names."""
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise SettingsError(f"unknown {what} {name!r}; there are {', '.join(sorted(registry))}", hint)
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
