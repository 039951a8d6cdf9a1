"""Mixed precision: towers and scores at half precision; weights, losses and optimizer stay float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from crossweave.errors import SettingsError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """One rank's precision (Micikevicius et al. 2018): float32, bf16 or fp16; fp16 scales its losses.

    Raises SettingsError for fp16 without a GPU.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type == "cpu":
            raise SettingsError(
                "train.precision fp16 needs a GPU, this rank computes on a CPU", "set train.precision to float32"
            )
        self._device, self._dtype = device.type, DTYPES.get(name)
        self._scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def half(self) -> AbstractContextManager[Any]:
        """Compute at half precision in here."""
        return torch.autocast(self._device, self._dtype) if self._dtype else nullcontext()

    def whole(self) -> AbstractContextManager[Any]:
        """Compute at float32 in here, inside of `half`."""
        return torch.autocast(self._device, enabled=False) if self._dtype else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled where the format needs it."""
        (self._scaler.scale(loss) if self._scaler else loss).backward()

    def clip(self, optimizer: Any, model: torch.nn.Module, largest: float) -> float:
        """Give the gradients their true size, bound their norm, and return what it was.

        With Horovod, after the gradients are averaged and before the step.
        """
        if self._scaler:
            self._scaler.unscale_(optimizer)
        return float(torch.nn.utils.clip_grad_norm_(model.parameters(), largest))

    def step(self, optimizer: Any) -> None:
        """Take the optimizer's step; one whose gradients overflowed is left out, on every rank alike."""
        if self._scaler:
            self._scaler.step(optimizer)
            self._scaler.update()
        else:
            optimizer.step()

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return self._scaler.state_dict() if self._scaler else {}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        if self._scaler and state:
            self._scaler.load_state_dict(state)
