"""The closed-form side of a training: fits collaborative models, weighs them, places new items in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment import COLLABORATIVE, find
from crossweave.alignment.blend import Blend, Member
from crossweave.alignment.collaborative.base import Collaborative
from crossweave.alignment.collaborative.content_map import ContentKernel, ContentMapSettings, content_map
from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.user_parts import UserBatch
from crossweave.errors import SettingsError
from crossweave.feeding.interactions import Interactions
from crossweave.feeding.items import ItemTensors
from crossweave.training.item_tower import all_items
from crossweave.training.map_search import FoundMap, search_map
from crossweave.training.plan import ListMetric
from crossweave.training.validation import best_unseen

USERS_AT_ONCE = 256
MOST_SCORES = 2_000_000_000  # users × items of the validation that chooses weights; beyond it users are sampled
FACTORS = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 2.0, 4.0)  # times the ratio of standard deviations
DEFAULT_FACTOR = 0.5  # without validation rows
ROUNDS = 2  # walks over the members where there are several

Workers = Mapping[str, Callable[..., Any]]
"""What collaborative models need that the cluster works out: `factorise`, `neighbours`."""


@dataclass(frozen=True)
class BlendPlan:
    """What the closed-form side is told."""

    collaborative: dict[str, dict[str, Any]]  # name -> settings of its fit
    content_map: ContentMapSettings
    search_map: bool
    metric: ListMetric
    metric_k: int
    seed: int
    workers: Workers = field(default_factory=dict)


@dataclass(frozen=True)
class BlendOutcome:
    """The models with their weights, and how they were chosen."""

    members: list[Member]
    metric: float | None  # of the blend on validation; None without validation rows
    found: FoundMap | None
    new_items: int


def fit_blend(
    plan: BlendPlan,
    model: AlignmentModel,
    items: ItemTensors,
    interactions: Interactions,
    tick: Callable[[str], None] = lambda what: None,
) -> BlendOutcome:
    """Fit every collaborative model of the plan; raises SettingsError for settings that a model does not have."""
    if not plan.collaborative:
        return BlendOutcome([], None, None, 0)
    fitted: dict[str, Collaborative] = {}
    for name, settings in plan.collaborative.items():
        tick(f"fitting {name}")
        fitted[name] = _fit(plan, name, settings, items, interactions)
    tick("weights of the blend")
    users = _Users(plan, model, items, interactions)
    weights, metric = _weigh(plan, users, items, fitted)
    members = [Member(name, weight, fitted[name]) for name, weight in weights.items() if weight > 0]
    found = None
    new_C, judged_W = np.flatnonzero(~items.judged), np.flatnonzero(items.judged)
    if members and len(new_C) and len(judged_W) and items.vectors:
        chosen = plan.content_map
        if plan.search_map:
            told = lambda done: tick(f"content map for {len(new_C)} new items, trial {done}")  # noqa: E731
            first, seen_UN = members[0].model, interactions.seen_UN
            found = search_map(chosen, items, seen_UN, first, plan.metric, plan.metric_k, plan.seed, told)
            chosen = found.settings if found is not None else chosen
        kernel = ContentKernel(items.vectors, items.present_NM, items.judged, chosen)
        map_WC = content_map(kernel, judged_W, new_C)
        for member in members:
            member.model.place(new_C, judged_W, map_WC)
            if not items.candidate_N[judged_W].any():
                # Ridge regression shrinks what it is unsure of: right where a new item competes with warm ones. Where
                # new items are all there is, it is the better judge, and the neural scores spread less by `neural`.
                factor = _ratio(member.model, users, new_C) / (member.weight * chosen.neural)
                member.model.stretch(new_C, factor)
    return BlendOutcome(members, metric, found, len(new_C))


def _fit(
    plan: BlendPlan, name: str, settings: dict[str, Any], items: ItemTensors, interactions: Interactions
) -> Collaborative:
    kind = find(COLLABORATIVE, "collaborative model", name)
    helpers = {**plan.workers, "content": (items.vectors, items.present_NM)}
    if kind.needs - helpers.keys():
        raise SettingsError(f"model.collaborative.{name} is fitted by Spark, and there is none here", "switch it off")
    try:
        fitted: Collaborative = kind.fit(interactions.seen_UN, **{n: helpers[n] for n in kind.needs}, **settings)
    except TypeError as error:
        raise SettingsError(f"model.collaborative.{name}: {error}", f"see {COLLABORATIVE[name]}") from error
    return fitted


class _Users:
    """The validation users of a blend: batches of their scores by the neural model."""

    def __init__(self, plan: BlendPlan, model: AlignmentModel, items: ItemTensors, interactions: Interactions) -> None:
        rng = np.random.default_rng(plan.seed)
        self.interactions, self.model = interactions, model
        self.judged = np.flatnonzero([len(wanted) > 0 for wanted in interactions.held_out])
        self.judged = np.sort(rng.permutation(self.judged)[: max(USERS_AT_ONCE, MOST_SCORES // max(1, items.count))])
        self.vectors, self.count = all_items(model, items), items.count
        with torch.inference_mode():
            self.targets = model.targets(self.vectors)

    def some(self) -> tuple[Histories, Tensor]:
        """Return the histories and neural scores of a few users, of any where none held out an item."""
        seen_UN = self.interactions.seen_UN
        users = self.judged if len(self.judged) else np.arange(seen_UN.shape[0])
        return self._scores(users[:USERS_AT_ONCE])

    def batches(self) -> Iterator[tuple[list[np.ndarray], Histories, Tensor]]:
        """Yield what each user held out, the histories and the neural scores [B, N]."""
        for start in range(0, len(self.judged), USERS_AT_ONCE):
            some = self.judged[start : start + USERS_AT_ONCE]
            histories, scores_BN = self._scores(some)
            yield [self.interactions.held_out[u] for u in some], histories, scores_BN

    @torch.inference_mode()
    def _scores(self, users: np.ndarray) -> tuple[Histories, Tensor]:
        histories = Histories.from_matrix(self.interactions.seen_UN[users])
        who = UserBatch.from_arrays(users, self.interactions.attributes_UA[users])
        return histories, self.model.scores(self.model.users(self.vectors.history_SD, histories, who), self.targets)


@torch.inference_mode()
def _weigh(
    plan: BlendPlan, users: _Users, items: ItemTensors, fitted: dict[str, Collaborative]
) -> tuple[dict[str, float], float | None]:
    """Choose one weight a model after the other on full-ranking validation."""
    warm_W = np.flatnonzero(items.popularity_N > 0)
    units = {name: _ratio(member, users, warm_W) for name, member in fitted.items()}
    weights = {name: DEFAULT_FACTOR * unit for name, unit in units.items()}
    metric: float | None = None
    allowed_N = torch.from_numpy(items.popularity_N > 0)
    if len(users.judged):
        weights = dict.fromkeys(weights, 0.0)
        for _ in range(ROUNDS if len(fitted) > 1 else 1):
            for name in fitted:
                tried = [factor * units[name] for factor in FACTORS]
                others = Blend([Member(o, w, fitted[o]) for o, w in weights.items() if o != name and w > 0])
                sums = np.zeros(len(tried))
                for wanted, histories, scores_BN in users.batches():
                    if (add := others.additions(histories)) is not None:
                        add(scores_BN, 0, items.count)
                    mine_BN = fitted[name].blocks(histories)(0, items.count)
                    for place, weight in enumerate(tried):
                        lists = best_unseen(scores_BN + weight * mine_BN, histories, allowed_N, plan.metric_k)
                        sums[place] += float(plan.metric(lists, wanted).sum())
                weights[name] = tried[int(sums.argmax())]
                metric = float(sums.max()) / len(users.judged)
    return weights, metric


@torch.inference_mode()
def _ratio(model: Collaborative, users: _Users, among: np.ndarray) -> float:
    """Return how much wider the neural scores of these items spread than this model's, over a batch of users."""
    histories, scores_BN = users.some()
    chosen = torch.from_numpy(among)
    spread = float(model.blocks(histories)(0, users.count)[:, chosen].std(dim=1, correction=0).mean())
    return float(scores_BN[:, chosen].std(dim=1, correction=0).mean()) / spread if spread > 0 else 0.0
