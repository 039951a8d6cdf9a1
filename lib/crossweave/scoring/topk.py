"""Exact top-K of a blocked matrix product, with masks applied before the cut.

Of each block only the maxima of groups of items are looked at closely: the K best lie inside the K groups with the
largest maxima, and once a user has K items, inside the groups whose maximum passes the last of them.

Where blocks are many, they come in a random order and the bar is a guess: about s K of the K best are expected in a
share s of the items, so what scores less than rank s K there, and a margin, is passed over. Who ends with K items above
all those bars has lost nothing by it; the few others are ranked again without guessing. The lists stay exact.

Shape letters: U users, N items, D dim, K top; of a block B items, G groups of W items, P groups that pass for a user,
C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossweave.scoring.running import RunningBest

PAD = -1
GROUP = 16
BLOCK_ITEMS = 1024  # with 1,024 users the scores of a block stay in the processor's cache
MANY_BLOCKS = 8  # with fewer a guess saves little
LONG_LISTS = 20  # K: the K-th of a share of the items tells little where K is small
MARGIN = 4.0  # standard deviations of the number of a user's best among a share of the items
MOST_DOUBTFUL = 1 / 16  # of the users: beyond that, ranking again costs more than guessing saves


@dataclass(frozen=True)
class TopK:
    """The best items of each user, best first; PAD and -inf where fewer than K may be recommended."""

    items_UK: np.ndarray  # int64, item index
    scores_UK: np.ndarray  # float32


class Kernel:
    """The items, checked once, that users are scored against: score = user · item + bias, in float32."""

    def __init__(self, item_ND: Tensor, bias_N: Tensor, *, allowed_N: Tensor, block_items: int = BLOCK_ITEMS) -> None:
        """Take the items; `allowed_N` (bool) says which may be recommended at all. All on one device.

        Raises ValueError for a vector that is not finite: a NaN would silently win or lose every comparison.
        """
        _check_finite(item=item_ND, bias=bias_N)
        self._item_ND = item_ND
        # A forbidden item costs nothing: its bias is -inf.
        self._bias_N = bias_N.float().masked_fill(~allowed_N, -torch.inf)
        spans = [(start, min(start + block_items, len(item_ND))) for start in range(0, len(item_ND), block_items)]
        allowed_B = np.array([int(allowed_N[start:stop].sum()) for start, stop in spans])
        self._blocks = [span for span, allowed in zip(spans, allowed_B, strict=True) if allowed]
        allowed_B = allowed_B[allowed_B > 0]
        order_B = np.random.default_rng(0).permutation(len(self._blocks))
        self.guessing = len(self._blocks) >= MANY_BLOCKS
        """Whether the bar is guessed: set to False by `best` where that fails for many users."""
        self._shuffled = [self._blocks[block] for block in order_B]
        self._share_B = allowed_B[order_B].cumsum() / max(allowed_B.sum(), 1)

    def best(
        self,
        user_UD: Tensor,
        k: int,
        *,
        masked: Sequence[np.ndarray],
        addition: Callable[[Tensor, int, int], None] | None = None,
    ) -> TopK:
        """Return the K best items of every user; `masked[u]` are those that may not be recommended to user u.

        `addition(scores_UB, start, stop)` adds another model's scores of a block of items in place. Exact; ties go to
        the smaller item index; memory is bounded by U × block_items whatever N. Raises ValueError for a user vector
        that is not finite, and for a score that is NaN or positive infinity.
        """
        _check_finite(user=user_UD)
        user_UD = user_UD.float()
        # Another model adds to the scores of all its users at once, so some cannot be ranked again.
        guessing = self.guessing and k >= LONG_LISTS and addition is None
        best = self._pass(user_UD, k, masked, addition, guessing)
        doubtful_U = best.doubtful() if guessing else None
        scores_UK, items_UK = best.result()
        if doubtful_U is not None and doubtful_U.any():
            # The order of a catalog may tell of its scores: then guesses fail for many, and are not worth it.
            self.guessing = float(doubtful_U.float().mean()) <= MOST_DOUBTFUL
            again = [masked[user] for user in doubtful_U.nonzero()[:, 0].tolist()]
            scores_UK[doubtful_U], items_UK[doubtful_U] = self._pass(user_UD[doubtful_U], k, again).result()
        return TopK(items_UK.cpu().numpy(), scores_UK.cpu().numpy())

    def _pass(
        self,
        user_UD: Tensor,
        k: int,
        masked: Sequence[np.ndarray],
        addition: Callable[[Tensor, int, int], None] | None = None,
        guessing: bool = False,
    ) -> RunningBest:
        """Offer all items to all users: in their order, or shuffled and with the bar at a guess."""
        best = RunningBest(len(user_UD), k, user_UD.device, in_order=not guessing)
        hidden = _Hidden(masked, user_UD.device)
        widest = max((stop - start for start, stop in self._blocks), default=0)
        # One buffer for all blocks: allocating a new one costs as much as the product itself.
        buffer = user_UD.new_empty(len(user_UD) * _whole_groups(widest))
        for turn, (start, stop) in enumerate(self._shuffled if guessing else self._blocks, start=1):
            width = _whole_groups(stop - start)
            scores_UB = buffer[: len(user_UD) * width].view(len(user_UD), width)
            real_UB = scores_UB[:, : stop - start]
            torch.addmm(self._bias_N[start:stop], user_UD, self._item_ND[start:stop].float().T, out=real_UB)
            if addition is not None:
                addition(real_UB, start, stop)
            scores_UB[:, stop - start :] = -torch.inf
            scores_UB[hidden.of(start, stop)] = -torch.inf
            if guessing:
                best.depth = _depth(k, self._share_B[turn - 1])
            _offer(scores_UB, start, best)
            # A guess pays when the share has doubled: between, few candidates come.
            if best.depth < k and turn & (turn - 1) == 0:
                best.settle()
        return best


def _depth(k: int, share: float) -> int:
    """Return how many of a user's K best lie at most, with a good margin, among this share of the items."""
    expected = k * share
    return min(k, math.ceil(expected + MARGIN * math.sqrt(expected)) + 3)


def top_k(
    user_UD: Tensor,
    item_ND: Tensor,
    bias_N: Tensor,
    k: int,
    *,
    allowed_N: Tensor,
    masked: Sequence[np.ndarray],
    block_items: int = BLOCK_ITEMS,
    addition: Callable[[Tensor, int, int], None] | None = None,
) -> TopK:
    """Return the K best of score = user · item + bias for every user, where it is done once: see `Kernel`."""
    kernel = Kernel(item_ND, bias_N, allowed_N=allowed_N, block_items=block_items)
    return kernel.best(user_UD, k, masked=masked, addition=addition)


def _offer(scores_UB: Tensor, start: int, best: RunningBest) -> None:
    """Pass on what a block's items have to offer; its first item is `start`."""
    # Item g of every run of G is in group g: maxima of whole runs are fast, those of neighbours are not.
    users, groups = len(scores_UB), scores_UB.shape[1] // GROUP
    members_UWG = scores_UB.view(users, GROUP, groups)
    maxima_UG = members_UWG.amax(dim=1)
    if users and not maxima_UG.max() < torch.inf:  # a NaN is below nothing
        raise ValueError("a score is NaN or infinite: an added score is, or vectors are too long; nothing was scored")
    passes_UG = maxima_UG > best.bar_U[:, None]
    if passes_UG.count_nonzero() > best.depth * users:
        # K groups have K items at least. One step below, since those that equal the bar may be wanted.
        enough = maxima_UG if groups > best.depth else scores_UB
        if enough.shape[1] > best.depth:
            last_U = enough.topk(best.depth, dim=1).values[:, -1]
            best.raise_bar(last_U.nextafter(last_U.new_tensor(-torch.inf)))
            passes_UG = maxima_UG > best.bar_U[:, None]
    user_P, group_P = _places(passes_UG)
    score_PW = members_UWG[user_P, :, group_P]
    passing_C, member_C = _places(score_PW > best.bar_U[user_P, None])
    item_C = start + member_C * groups + group_P[passing_C]
    best.add(user_P[passing_C], score_PW[passing_C, member_C], item_C)


def _places(chosen_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns of what is chosen, row after row."""
    if chosen_RC.device.type != "cpu":
        row, column = chosen_RC.nonzero(as_tuple=True)
        return row, column
    # numpy skips what is not chosen in strides; torch looks at every place.
    rows, columns = np.divmod(np.flatnonzero(chosen_RC.numpy()), chosen_RC.shape[1])
    return torch.from_numpy(rows), torch.from_numpy(columns)


class _Hidden:
    """Which items may not be recommended to whom, ordered by item so that a block's are neighbours."""

    def __init__(self, masked: Sequence[np.ndarray], device: torch.device) -> None:
        user = np.repeat(np.arange(len(masked)), [len(row) for row in masked])
        item = np.concatenate([np.asarray(row, np.int64) for row in masked]) if len(masked) else np.zeros(0, np.int64)
        order = np.argsort(item, kind="stable")
        self._item = item[order]
        self._device_user, self._device_item = (torch.from_numpy(part[order]).to(device) for part in (user, item))

    def of(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return users and places in the block of all that is hidden between start and stop."""
        low, high = np.searchsorted(self._item, [start, stop])
        return self._device_user[low:high], self._device_item[low:high] - start


def _whole_groups(items: int) -> int:
    return -(-items // GROUP) * GROUP


def _check_finite(**vectors: Tensor) -> None:
    for name, values in vectors.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"a {name} vector holds NaN or infinity; nothing was scored")
