"""The running K best of each user: candidates come in any order, ties go to the smaller item index.

Shape letters: U users, K top, C candidates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = torch.iinfo(torch.int64).min
_LOW = 0xFFFFFFFF


class RunningBest:
    """The K best so far of U users, and the score that a candidate has to pass.

    A candidate is one int64: the score's bits above, the item's complement below. So the order of the numbers is that
    of the scores, then of the smaller index, and no two are equal: any selection of the largest is exact and stable.
    """

    def __init__(self, users: int, k: int, device: torch.device, in_order: bool = True) -> None:
        """`in_order`: who comes later has the larger index, so that who equals the K-th best so far is not wanted."""
        self._k, self._in_order = k, in_order
        self._keys_UW = torch.full((users, 2 * k), NOTHING, device=device)  # the K best, then what came since
        self._came_U = torch.zeros(users, dtype=torch.int64, device=device)
        self.bar_U = torch.full((users,), -torch.inf, device=device)
        """Only what scores more is looked at."""
        self.depth = k
        """The rank, among what came so far, whose score is the bar: less than K is a guess, see `doubtful`."""

    def raise_bar(self, bar_U: Tensor) -> None:
        """Look from now on only at what scores more than `bar_U`."""
        self.bar_U = self.bar_U.maximum(bar_U)

    def add(self, user_C: Tensor, score_C: Tensor, item_C: Tensor) -> None:
        """Take in candidates, ordered by user; each item comes once."""
        if not len(user_C):
            return
        count_U = torch.bincount(user_C, minlength=len(self.bar_U))
        if int((self._came_U + count_U).max()) > self._room:
            self.settle(int(count_U.max()))
        before_U = count_U.cumsum(0) - count_U
        within_C = torch.arange(len(user_C), device=user_C.device) - before_U[user_C]
        self._keys_UW[user_C, self._k + self._came_U[user_C] + within_C] = _keys(score_C, item_C)
        self._came_U += count_U

    def doubtful(self) -> Tensor:
        """Return bool [U]: whose K best may lack an item that did not pass the bar, or equalled it."""
        return (_scores_of(self._best().amin(dim=1)) <= self.bar_U) & (self.bar_U > -torch.inf)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return scores float32 and items int64 [U, K], best first; -inf and -1 where there is nothing."""
        self.settle()
        keys_UK = self._keys_UW[:, : self._k].sort(dim=1, descending=True).values
        items_UK = (_LOW - (keys_UK & _LOW)).masked_fill_(keys_UK == NOTHING, -1)
        return _scores_of(keys_UK), items_UK

    @property
    def _room(self) -> int:
        return self._keys_UW.shape[1] - self._k

    def settle(self, room: int = 0) -> None:
        """Keep the K best of all that came, raise the bar to the one at `depth`, and make room for what comes.

        With room for K a bar is never stale for long: more candidates at a time would cost more than they save.
        """
        best_UK = self._best()
        if self._in_order or self.depth < self._k:
            self.raise_bar(_scores_of(best_UK.topk(self.depth, dim=1, sorted=False).values.amin(dim=1)))
        self._keys_UW = F.pad(best_UK, (0, max(self._k, room)), value=NOTHING)
        self._came_U.zero_()

    def _best(self) -> Tensor:
        return self._keys_UW.topk(self._k, dim=1, sorted=False).values


def _keys(score_C: Tensor, item_C: Tensor) -> Tensor:
    """Return int64 numbers ordered as (score, then smaller item)."""
    bits_C = (score_C + 0.0).view(torch.int32)  # -0 + 0 is +0: the two are one score
    return (_ordered(bits_C).to(torch.int64) << 32) | (_LOW - item_C)


def _scores_of(keys: Tensor) -> Tensor:
    scores = _ordered((keys >> 32).to(torch.int32)).view(torch.float32)
    return scores.masked_fill_(keys == NOTHING, -torch.inf)


def _ordered(bits: Tensor) -> Tensor:
    """Turn a float's bits into a whole number of the same order, and back: negative floats count downwards."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
