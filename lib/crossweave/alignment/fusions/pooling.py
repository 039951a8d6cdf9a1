"""What fusions share that weigh whole tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_tokens(logits_BM: Tensor, tokens_BMD: Tensor, present_BM: Tensor, nothing_D: Tensor) -> Tensor:
    """Return [B, D]: tokens weighed by a softmax over the present ones, `nothing_D` for items without any."""
    logits_BM = logits_BM.masked_fill(~present_BM, torch.finfo(logits_BM.dtype).min)
    weights_BM = logits_BM.softmax(dim=1) * present_BM
    fused_BD = torch.einsum("bm,bmd->bd", weights_BM, tokens_BMD)
    return torch.where(present_BM.any(dim=1, keepdim=True), fused_BD, nothing_D)
