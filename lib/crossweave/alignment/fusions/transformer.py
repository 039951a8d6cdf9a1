"""Transformer fusion: the modalities of an item attend to each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossweave.alignment.ranges import AtLeast1, ShareBelow1


class TransformerFusion(nn.Module):
    """Self-attention over modality tokens and one summary token, whose last state is the content vector.

    Vaswani et al. 2017 with the normalisation first (Xiong et al. 2020); the summary token is BERT's [CLS]
    (Devlin et al. 2019), a learned vector a modality says which is which. Missing tokens are masked as keys.
    """

    def __init__(
        self, dim: int, modalities: int, layers: AtLeast1 = 1, heads: AtLeast1 = 4, dropout: ShareBelow1 = 0.0
    ) -> None:
        super().__init__()
        if dim % heads:
            raise TypeError(f"dim {dim} must be a multiple of heads {heads}")
        self.summary_D = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.modality_MD = nn.Parameter(torch.randn(modalities, dim) * dim**-0.5)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, tokens_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """Return content vectors [B, D] from tokens [B, M, D] and their boolean mask [B, M]."""
        marked_BMD = tokens_BMD.masked_fill(~present_BM[..., None], 0.0) + self.modality_MD
        summary_B1D = torch.zeros_like(marked_BMD[:, :1]) + self.summary_D
        missing = F.pad(~present_BM, (1, 0))  # the summary is always there
        states = self.encoder(torch.cat([summary_B1D, marked_BMD], dim=1), src_key_padding_mask=missing)
        out_BD: Tensor = states[:, 0]
        return out_BD
