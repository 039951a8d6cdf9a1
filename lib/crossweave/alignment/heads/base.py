"""The contract of a recommender head."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Head(nn.Module):
    """Scores users against items: users(u) · items(t) + bias, and of a head that is no product, what pairs add.

    The item side is computed once for a whole catalog, so scoring stays one matrix product. Shape letters: B users,
    S items, D dim of the model, E dim of the product.
    """

    product: ClassVar[bool] = True  # False: `pairs` adds to the product

    def __init__(self, dim: int) -> None:
        super().__init__()

    def users(self, user_BD: Tensor) -> Tensor:
        """Return the user side of the product: [B, E]."""
        return user_BD

    def items(self, target_SD: Tensor, bias_S: Tensor) -> tuple[Tensor, Tensor]:
        """Return the item side of the product [S, E], and the bias [S] of each item."""
        return target_SD, bias_S

    def pairs(self, user_BE: Tensor, item_SE: Tensor) -> Tensor:
        """Return what the scores [B, S] have beyond the product; raises NotImplementedError where that is nothing."""
        raise NotImplementedError(f"{type(self).__name__} is a product of the two sides")
