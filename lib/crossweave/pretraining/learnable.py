"""The part of a model that learns, as checkpoints and broadcasts see it: a LoRA of a large model is a small file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

BUDGET = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""What AdaLoRA has seen of each weight's importance, which peft keeps outside of the model's state."""


class Learnable:
    """The weights of a module that may change, and what AdaLoRA goes by."""

    def __init__(self, module: torch.nn.Module, encoder: Any) -> None:
        self._module = module
        self._allocator = getattr(getattr(encoder, "base_model", None), "rankallocator", None)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors themselves, by name."""
        weights = {name: p.data for name, p in self._module.named_parameters() if p.requires_grad}
        return weights | dict(self._budget())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take tensors over; raises ValueError where they are not those of this module."""
        own = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        given = {name: value for name, value in state.items() if not name.startswith("budget/")}
        if own.keys() != given.keys():
            odd = sorted(own.keys() ^ given.keys())[:3]
            raise ValueError(f"the weights are those of another pretraining: {', '.join(odd)} do not match")
        with torch.no_grad():
            for name, value in given.items():
                own[name].copy_(value)
        for name, value in state.items():
            if name.startswith("budget/") and self._allocator is not None:
                _, kind, weight = name.split("/", 2)
                getattr(self._allocator, kind)[weight] = value.clone()

    def _budget(self) -> Iterator[tuple[str, Tensor]]:
        if self._allocator is not None:
            for kind in BUDGET:
                for weight, value in getattr(self._allocator, kind).items():
                    yield f"budget/{kind}/{weight}", value
