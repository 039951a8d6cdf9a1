"""Factorisation machine over two fields: the user's vector and the item's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossweave.alignment.heads.base import Head
from crossweave.alignment.ranges import AtLeast1


class Field(nn.Module):
    """One field's share of a factorisation machine: linear weights [D] and factors [D, k]."""

    def __init__(self, factors_Dk: Tensor) -> None:
        super().__init__()
        self.linear_D = nn.Parameter(torch.zeros(len(factors_Dk)))
        self.factors_Dk = nn.Parameter(factors_Dk.clone())

    def forward(self, x_XD: Tensor) -> tuple[Tensor, Tensor]:
        """Return Vᵀx [X, k], and w · x + Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j [X]: what a field says on its own."""
        mixed_Xk = x_XD @ self.factors_Dk
        within_X = (mixed_Xk.square().sum(dim=1) - x_XD.square() @ self.factors_Dk.square().sum(dim=1)) / 2
        return mixed_Xk, x_XD @ self.linear_D + within_X


class FactorisationMachine(Head):
    """s = w · x + Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j + b with x = [u; t] (Rendle 2010, eq. 1 and lemma 3.1).

    What is within one field depends on one side alone; across the fields it is (V_uᵀu) · (V_tᵀt): an inner product.
    It starts as the plain inner product: both sides share an orthogonal V, whose own interactions vanish.
    """

    def __init__(self, dim: int, factors: AtLeast1 | None = None) -> None:
        super().__init__(dim)
        start_Dk = nn.init.orthogonal_(torch.empty(dim, factors or dim))
        self.user, self.item = Field(start_Dk), Field(start_Dk)

    def users(self, user_BD: Tensor) -> Tensor:
        """Return [Vᵀu, what the user says alone]: [B, k + 1]."""
        mixed_Bk, alone_B = self.user(user_BD)
        return torch.cat([mixed_Bk, alone_B[:, None]], dim=1)

    def items(self, target_SD: Tensor, bias_S: Tensor) -> tuple[Tensor, Tensor]:
        """Return [Vᵀt, 1]: [S, k + 1], and what the item says alone in the bias."""
        mixed_Sk, alone_S = self.item(target_SD)
        return torch.cat([mixed_Sk, torch.ones_like(alone_S)[:, None]], dim=1), bias_S + alone_S
