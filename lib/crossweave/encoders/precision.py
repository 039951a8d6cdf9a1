"""Faster arithmetic for a finished model: 16-bit floats, and 8-bit integers with a scale for every row."""

from __future__ import annotations

import torch

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
_SMALLEST_SCALE = 1e-8 / 127
_FEWEST_FEATURES = 32  # narrower layers gain nothing


def candidates(device: str, model: torch.nn.Module) -> list[str]:
    """Precisions worth trying on a device, float32 first.

    bfloat16 on a CPU without matrix units is slower than float32; 8 bits pay in Linear layers only.
    """
    if not device.startswith("cpu"):
        return ["float32", "float16", "bfloat16"]
    names = ["float32"]
    if torch.cpu._is_amx_tile_supported():
        names.append("bfloat16")
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    others = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Conv1d | torch.nn.Conv2d))
    return [*names, "int8"] if linear > others else names


def cast(model: torch.nn.Module, precision: str) -> torch.nn.Module:
    """The model in that precision; int8 replaces its Linear layers in place."""
    if precision == "int8":
        _replace_linear(model)
        return model
    return model.to(getattr(torch, precision))


def input_dtype(precision: str) -> torch.dtype:
    """What the model's floating-point inputs must be."""
    return torch.float32 if precision == "int8" else getattr(torch, precision)


class Int8Linear(torch.nn.Module):
    """y = x Wᵀ + b in 8-bit integers, with a scale a row of x (found at run time) and a row of W.

    One scale for a whole batch, as torch's dynamic quantisation has, is spoilt by a few large tokens in every text
    (Dettmers et al. 2022, section 2.1: vector-wise quantisation).
    """

    weight_t: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1).clamp(min=_SMALLEST_SCALE) / 127
        self.register_buffer("weight_t", (weight / scale[:, None]).round().to(torch.int8).t().contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows [..., in] as [..., out]."""
        flat = rows.reshape(-1, rows.shape[-1])
        scale = flat.abs().amax(dim=1, keepdim=True).clamp_(min=_SMALLEST_SCALE) / 127
        eights = (flat / scale).round_().to(torch.int8)
        out = torch._int_mm(eights, self.weight_t).float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            out += self.bias
        return out.reshape(*rows.shape[:-1], -1)


def _replace_linear(model: torch.nn.Module) -> None:
    for name, child in model.named_children():
        if isinstance(child, torch.nn.Linear) and min(child.in_features, child.out_features) >= _FEWEST_FEATURES:
            setattr(model, name, Int8Linear(child))
        else:
            _replace_linear(child)
