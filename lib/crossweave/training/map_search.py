"""Chooses a content map: hides the items that users judged, group by group, and ranks each group as if it were new.

Shape letters: U users, J judged items, G items of a hidden group, R the other judged items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from crossweave.alignment.collaborative.base import Collaborative
from crossweave.alignment.collaborative.content_map import ContentMapSettings, centred
from crossweave.alignment.histories import Histories
from crossweave.feeding.items import ItemTensors
from crossweave.training.plan import ListMetric

GROUPS = 6  # every judged item is hidden once: on a sample, chance decides between settings a hundredth apart
MOST_ITEMS = 4096  # judged items of a search: a system of that size is solved in half a second
MOST_USERS = 4096
USERS_AT_ONCE = 256
FEWEST_ITEMS = 40  # below this many judged items a search would choose by chance
FACTORS = (0.0, 0.3, 3.0)  # tried on one modality's share at a time
SHARPNESS = (1.0, 2.0, 4.0)
RIDGE = (0.03, 0.1, 0.3, 1.0)
ROUNDS = 2


@dataclass(frozen=True)
class FoundMap:
    """The settings chosen, and what they reach on hidden warm items."""

    settings: ContentMapSettings
    metric: float
    trials: int


def search_map(
    start: ContentMapSettings,
    items: ItemTensors,
    seen_UN: csr_matrix,
    model: Collaborative,
    metric: ListMetric,
    k: int,
    seed: int,
    tick: Callable[[int], None] = lambda done: None,
) -> FoundMap | None:
    """Walk along one setting at a time, keeping what ranks hidden items better; None where there are too few items.

    A setting's worth is the mean over all groups of hidden items: their users ranked them by the rest of their history.
    """
    rng = np.random.default_rng(seed)
    judged = np.flatnonzero(items.judged)
    if len(judged) < FEWEST_ITEMS or not items.vectors:
        return None
    judge = _Judge(items, seen_UN, np.sort(rng.permutation(judged)[:MOST_ITEMS]), model, metric, k, rng)
    best = replace(start, shares={name: start.shares.get(name, 1.0) for name in items.vectors})
    seen = {_key(best): judge(best)}
    for _ in range(ROUNDS):
        before = best
        for variants in _steps(best):
            for variant in variants(best):
                if not any(variant.shares.values()):
                    continue
                if _key(variant) not in seen:
                    seen[_key(variant)] = judge(variant)
                    tick(len(seen))
                if seen[_key(variant)] > seen[_key(best)]:
                    best = variant
        if best == before:
            break
    return FoundMap(best, seen[_key(best)], len(seen))


Variants = Callable[[ContentMapSettings], Iterator[ContentMapSettings]]


def _steps(start: ContentMapSettings) -> Iterator[Variants]:
    yield lambda best: (replace(best, ridge=ridge) for ridge in RIDGE)
    yield lambda best: (replace(best, sharpness=sharpness) for sharpness in SHARPNESS)
    if len(start.shares) > 1:
        for name in start.shares:
            yield lambda best, name=name: (  # type: ignore[misc]
                replace(best, shares={**best.shares, name: (best.shares[name] or 1.0) * factor}) for factor in FACTORS
            )


def _key(settings: ContentMapSettings) -> tuple[float, ...]:
    shares = settings.normalised(settings.shares).values()
    return (*(round(share, 6) for share in shares), settings.sharpness, settings.ridge)


class _Judge:
    """What does not change between the trials: cosines of each modality, and users' scores without a hidden group."""

    def __init__(
        self,
        items: ItemTensors,
        seen_UN: csr_matrix,
        judged: np.ndarray,
        model: Collaborative,
        metric: ListMetric,
        k: int,
        rng: np.random.Generator,
    ) -> None:
        self.metric, self.k, self.count = metric, k, len(judged)
        self.cosines: dict[str, Tensor] = {}
        everything = np.ones(len(judged), bool)
        for m, (name, vectors) in enumerate(items.vectors.items()):
            unit_JF = centred(vectors[judged], items.present_NM[judged, m], everything)
            self.cosines[name] = unit_JF @ unit_JF.T
        users = np.flatnonzero(np.diff(seen_UN[:, judged].indptr) > 0)
        seen_UN = seen_UN[np.sort(rng.permutation(users)[:MOST_USERS])]
        self.groups = [
            _Group(items.count, seen_UN, judged, np.sort(hidden), model)
            for hidden in np.array_split(rng.permutation(len(judged)), GROUPS)
        ]

    def __call__(self, settings: ContentMapSettings) -> float:
        cosine_JJ = torch.zeros(self.count, self.count)
        for name, share in settings.normalised(self.cosines).items():
            if share > 0:
                cosine_JJ.add_(self.cosines[name], alpha=share)
        system_JJ = settings.sharpened(cosine_JJ).double()
        system_JJ.diagonal().add_(settings.ridge)
        inverse_JJ = torch.cholesky_inverse(torch.linalg.cholesky(system_JJ))
        return float(np.mean([group.worth(inverse_JJ, self.metric, self.k) for group in self.groups]))


class _Group:
    """Items that are hidden together, who took them, and what these users' other items say of the rest."""

    def __init__(
        self, count: int, seen_UN: csr_matrix, judged: np.ndarray, hidden: np.ndarray, model: Collaborative
    ) -> None:
        rest = np.setdiff1d(np.arange(len(judged)), hidden)
        self.hidden, self.rest = torch.from_numpy(hidden), torch.from_numpy(rest)
        shown_N = np.ones(count, np.float32)
        shown_N[judged[hidden]] = 0.0
        without_UN = csr_matrix(seen_UN @ diags(shown_N))
        without_UN.eliminate_zeros()
        took_UG = seen_UN[:, judged[hidden]]
        took_UG.sort_indices()
        users = np.flatnonzero((np.diff(took_UG.indptr) > 0) & (np.diff(without_UN.indptr) > 0))
        took_UG, histories = took_UG[users], Histories.from_matrix(without_UN[users])
        self.relevant = np.split(took_UG.indices, took_UG.indptr[1:-1])
        self.scores_UR = torch.empty(len(users), len(rest))
        for start in range(0, len(users), USERS_AT_ONCE):
            part = histories.part(start, start + USERS_AT_ONCE)
            self.scores_UR[start : start + USERS_AT_ONCE] = model.blocks(part)(0, count)[
                :, torch.from_numpy(judged[rest])
            ]

    def worth(self, inverse_JJ: Tensor, metric: ListMetric, k: int) -> float:
        """Return the metric of this group ranked by a kernel ridge regression on the rest.

        With P = (K + ridge I)⁻¹ over all items its map (K_RR + ridge I)⁻¹ K_RG is −P_RG P_GG⁻¹, by the inverse of a
        matrix in blocks: one large inverse serves all groups.
        """
        if not len(self.relevant):
            return 0.0
        inverse_GJ = inverse_JJ[self.hidden]
        factor_GG = torch.linalg.cholesky(inverse_GJ[:, self.hidden])
        map_GR = -torch.cholesky_solve(inverse_GJ[:, self.rest], factor_GG)
        scores_UG = self.scores_UR @ map_GR.T.float()
        best = scores_UG.topk(min(k, scores_UG.shape[1]), dim=1).indices.numpy()
        return float(np.mean(metric(best, self.relevant)))
