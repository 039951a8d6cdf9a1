"""Chooses a content map by hiding a share of the items that users judged and ranking them as if they were new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from crossweave.alignment.collaborative.base import Collaborative
from crossweave.alignment.collaborative.content_map import ContentMapSettings, centred, ridge_map
from crossweave.alignment.histories import Histories
from crossweave.feeding.items import ItemTensors
from crossweave.training.plan import ListMetric

HIDDEN = 0.15  # share of the judged items in one sample
SAMPLES = 3  # disjoint samples of hidden items; on one alone, chance decides between settings a hundredth apart
MOST_ITEMS = 4096  # judged items of a search: a system of that size is solved in half a second
MOST_USERS = 4096
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
    fit: Callable[[csr_matrix], Collaborative],
    metric: ListMetric,
    k: int,
    seed: int,
    tick: Callable[[int], None] = lambda done: None,
) -> FoundMap | None:
    """Walk along one setting at a time, keeping what ranks hidden items better; None where there are too few items.

    Users are the ones with a hidden item; the candidates are the hidden items alone. A setting's worth is its mean over
    the samples of hidden items.
    """
    rng = np.random.default_rng(seed)
    judged = np.flatnonzero(items.judged)
    if len(judged) < FEWEST_ITEMS or not items.vectors:
        return None
    judged = rng.permutation(judged)[:MOST_ITEMS]
    size = max(1, round(HIDDEN * len(judged)))
    samples = [np.sort(judged[start * size : (start + 1) * size]) for start in range(SAMPLES)]
    kept = [np.setdiff1d(judged, hidden) for hidden in samples]
    judges = [_Judge(items, seen_UN, *parts, fit, metric, k, rng) for parts in zip(kept, samples, strict=True)]
    judge = lambda settings: float(np.mean([one(settings) for one in judges]))  # noqa: E731
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
    """What does not change between the trials: cosines of each modality, and the users' scores of the kept items."""

    def __init__(
        self,
        items: ItemTensors,
        seen_UN: csr_matrix,
        kept: np.ndarray,
        hidden: np.ndarray,
        fit: Callable[[csr_matrix], Collaborative],
        metric: ListMetric,
        k: int,
        rng: np.random.Generator,
    ) -> None:
        self.metric, self.k = metric, min(k, len(hidden))
        self.count, self.new = len(kept), len(hidden)
        reference_N = np.zeros(items.count, bool)
        reference_N[kept] = True
        chosen = np.concatenate([kept, hidden])
        self.cosines: dict[str, Tensor] = {}
        for m, (name, vectors) in enumerate(items.vectors.items()):
            unit = centred(vectors[chosen], items.present_NM[chosen, m], reference_N[chosen])
            self.cosines[name] = unit[: self.count] @ unit.T
        shown_N = np.ones(items.count, np.float32)
        shown_N[hidden] = 0.0
        without = csr_matrix(seen_UN @ diags(shown_N))
        without.eliminate_zeros()
        truth_UC = seen_UN.tocsc()[:, hidden].tocsr()
        users = np.flatnonzero((np.diff(truth_UC.indptr) > 0) & (np.diff(without.indptr) > 0))
        users = np.sort(rng.permutation(users)[:MOST_USERS])
        truth_UC = truth_UC[users]
        self.relevant = np.split(truth_UC.indices, truth_UC.indptr[1:-1])
        blocks = fit(without).blocks(Histories.from_matrix(without[users]))
        self.scores_UW = blocks(0, items.count)[:, torch.from_numpy(kept)].contiguous()

    def __call__(self, settings: ContentMapSettings) -> float:
        cosine = torch.zeros(self.count, self.count + self.new)
        for name, share in settings.normalised(self.cosines).items():
            if share > 0:
                cosine.add_(self.cosines[name], alpha=share)
        kernel = settings.sharpened(cosine)
        map_WC = ridge_map(kernel[:, : self.count], kernel[:, self.count :], settings.ridge)
        best = (self.scores_UW @ torch.from_numpy(map_WC)).topk(self.k, dim=1).indices.numpy()
        return float(np.mean(self.metric(best, self.relevant))) if len(self.relevant) else 0.0
