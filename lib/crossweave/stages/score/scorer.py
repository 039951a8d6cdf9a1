"""What a worker process holds to score: model, item vectors and rules of one task, and how lists are made of them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from crossweave.alignment.blend import together
from crossweave.alignment.histories import Histories
from crossweave.alignment.sides import Targets, Users
from crossweave.alignment.user_parts import UserBatch
from crossweave.artifacts.model import TrainedModel
from crossweave.artifacts.scored import ScoredVectors
from crossweave.config import ScoreSettings
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import required_manifest
from crossweave.scoring.ann import INDEX, INDEXED, ApproximateKernel, recall
from crossweave.scoring.caps import Rank, capped
from crossweave.scoring.explore import Exploration, explore
from crossweave.scoring.listed import Listed
from crossweave.scoring.reranks import build_reranks
from crossweave.scoring.reranks.base import NOWHERE, ItemFacts, reranked
from crossweave.scoring.rules import ItemRules
from crossweave.scoring.topk import Kernel, TopK
from crossweave.scoring.users import beyond_product, read_users
from crossweave.stages.score.explaining import Explainer
from crossweave.storage.location import Location
from crossweave.tables.schema import RECOMMENDATIONS
from crossweave.tables.vectors import lists_of

USER_COLUMNS = ("user_id", "history", "seen", "user_index", "attributes", "segments", "blocked")
RULES = "rules.npz"
"""The file of the rules beside the scored vectors."""


@dataclass(frozen=True)
class Task:
    """What a task needs to know; vectors are found on disk, never pickled."""

    key: str  # of all that decides the result; a process keeps what it loaded for one key
    model: Location
    scored: Location
    tensors: Location
    date: datetime.date
    settings: ScoreSettings
    seed: int
    with_rules: bool


@dataclass(frozen=True)
class _Part:
    """Some users of one set of segments, read for the kernel."""

    rows: pa.RecordBatch
    histories: Histories
    users: Users


class Scorer:
    """The model and the memory-mapped item vectors of this process."""

    def __init__(self, task: Task) -> None:
        self.settings = task.settings
        trained, scored = TrainedModel.open(task.model), ScoredVectors.open(task.scored)
        self.model, self.blend = trained.load(), trained.blend()
        item_NE, bias_N, center_E = map(torch.from_numpy, (scored.target_NE, scored.bias_N, scored.center_E))
        query_ND = torch.from_numpy(scored.query_NE) if self.model.target_aware else None
        self.targets = Targets(item_NE, bias_N, query_ND)
        self.history_ND, self.candidate_N = torch.from_numpy(scored.history_ND), np.array(scored.candidate_N)
        self.rules = ItemRules.load(scored.sealed.path(RULES)) if task.with_rules else None
        self.caps = self.rules.caps if self.rules is not None else ()
        self.kernels: dict[tuple[int, bool], Kernel] = {}
        self.indices: dict[tuple[int, bool], ApproximateKernel] = {}
        self.scored = scored
        boost_N = self.rules.boost_N if self.rules is not None else None
        self.bias_N = bias_N if boost_N is None else bias_N + torch.from_numpy(boost_N)
        self.item_ids = scored.item_ids
        manifest = required_manifest(task.tensors)
        items, self.attributes = open_items(manifest), len(manifest.attributes)
        self.explainer = Explainer(self.model, self.blend, self.targets, center_E, items, self.item_ids, boost_N)
        self.steps = build_reranks(task.settings.rerank or {})
        self.facts = ItemFacts(item_NE, center_E, items.popularity_N)
        self.cold_N = items.popularity_N == 0
        self.exploration = Exploration(task.settings.explore.share, task.settings.explore.first_rank, task.seed)
        self.reorders = bool(self.steps) or task.settings.explore.share > 0

    @torch.inference_mode()
    def score(self, rows: pa.RecordBatch, date: datetime.date) -> pa.RecordBatch:
        """Return recommendations, best first for each of the users in turn; `rows` are of one set of segments.

        Where something re-orders the lists, also what fell out of them: rows with a rank before, but none now.
        """
        whole = self._read(rows)
        chosen, explained = self._choose(whole), self.settings.reasons
        known = {
            "run_date": pa.array(np.full(len(chosen.user_R), np.datetime64(date, "D")), pa.date32()),
            "user_id": rows.column("user_id").take(pa.array(chosen.user_R)),
            "rank": _ranks(chosen.place_R),
            "item_id": self.item_ids.take(pa.array(chosen.item_R)),
            "score": pa.array(chosen.score_R),
            "reasons": self.explainer.reasons(whole.users, chosen, explained),
            "because": self.explainer.because(whole.histories, chosen, explained, self.settings.reason_items),
            "rank_before": _ranks(chosen.before_R),
            "explored": pa.array(chosen.explored_R),
        }
        return pa.RecordBatch.from_arrays([known[name] for name in RECOMMENDATIONS.names], schema=RECOMMENDATIONS)

    def _choose(self, whole: _Part) -> Listed:
        """Make the lists: by score, at most n of a category, then re-ranked and with places for cold items."""
        by_score = self._ranker(whole)
        before = self._fill(by_score, whole)
        if not self.reorders:
            return Listed.of(before)
        after = self._fill(self._reranked(by_score), whole) if self.steps else before
        explored_UK = np.zeros(after.items_UK.shape, bool)
        if self.exploration.share:
            ids, cold = whole.rows.column("user_id").to_pylist(), self._ranker(whole, only_cold=True)
            after, explored_UK = explore(after, ids, self.cold_N, cold, self.exploration, self.caps)
        return Listed.of(after, before, explored_UK)

    def _ranker(self, whole: _Part, *, only_cold: bool = False, exact: bool = False) -> Rank:
        def rank(chosen: np.ndarray, depth: int) -> TopK:
            some = whole if len(chosen) == whole.rows.num_rows else self._read(whole.rows.take(pa.array(chosen)))
            return self._top(some, depth, only_cold, exact)

        return rank

    def _fill(self, rank: Rank, whole: _Part) -> TopK:
        users, k = whole.rows.num_rows, self.settings.top_k
        return capped(rank, users, len(self.candidate_N), k, self.caps) if self.caps else rank(np.arange(users), k)

    def _reranked(self, by_score: Rank) -> Rank:
        size = self.settings.rerank_pool

        def rank(chosen: np.ndarray, depth: int) -> TopK:
            deep = reranked(by_score(chosen, max(depth, size)), self.steps, self.facts, size)
            return TopK(deep.items_UK[:, :depth], deep.scores_UK[:, :depth])

        return rank

    def _read(self, rows: pa.RecordBatch) -> _Part:
        histories = Histories.from_lists(lists_of(rows.column("history")))
        codes = rows.column("attributes").flatten().to_numpy(zero_copy_only=False)
        codes_UA = codes.reshape(rows.num_rows, self.attributes)
        who = UserBatch.from_arrays(rows.column("user_index").to_numpy(), codes_UA)
        return _Part(rows, histories, read_users(self.model, self.history_ND, histories, who))

    def compare(self, rows: pa.RecordBatch) -> tuple[float, int]:
        """Return the recall of the index against exact lists, and how many of these users it left to the kernel."""
        part, left = self._read(rows), set[int]()
        index = self._index(rows.column("segments")[0].as_py(), only_cold=False)
        by_index = self._ranker(part)

        def rank(chosen: np.ndarray, depth: int) -> TopK:
            best = by_index(chosen, depth)
            left.update(chosen[index.ranked_exactly].tolist())
            return best

        found, exact = self._fill(rank, part), self._fill(self._ranker(part, exact=True), part)
        return recall(found, exact), len(left)

    def _top(self, part: _Part, k: int, only_cold: bool, exact: bool = False) -> TopK:
        """Return the best candidates that the users may have and have not seen."""
        kernel = self._kernel if exact or self.settings.ann.index is None else self._index
        both = zip(*(lists_of(part.rows.column(name)) for name in ("seen", "blocked")), strict=True)
        return kernel(part.rows.column("segments")[0].as_py(), only_cold).best(
            part.users.vector_BE,
            k,
            masked=[np.concatenate(lists) for lists in both],
            addition=together(
                beyond_product(self.model, part.users, self.targets), self.blend.additions(part.histories)
            ),
        )

    def _kernel(self, segments: int, only_cold: bool) -> Kernel:
        """Return the candidates that the rules leave to users of these segments, ready to be ranked."""
        if (segments, only_cold) not in self.kernels:
            self.kernels[segments, only_cold] = Kernel(
                self.targets.item_SE,
                self.bias_N,
                allowed_N=self._allowed(segments, only_cold),
                block_items=self.settings.block_items,
            )
        return self.kernels[segments, only_cold]

    def _index(self, segments: int, only_cold: bool) -> ApproximateKernel:
        """Return the same behind the index of nearest neighbours."""
        if (segments, only_cold) not in self.indices:
            self.indices[segments, only_cold] = ApproximateKernel(
                self.scored.sealed.path(INDEX),
                self.scored.sealed.array(INDEXED),
                self._kernel(segments, only_cold),
                self.targets.item_SE,
                self.bias_N,
                allowed_N=self._allowed(segments, only_cold),
            )
        return self.indices[segments, only_cold]

    def _allowed(self, segments: int, only_cold: bool) -> torch.Tensor:
        allowed_N = self.candidate_N & self.cold_N if only_cold else self.candidate_N
        if self.rules is not None:
            allowed_N = allowed_N & self.rules.allowed(segments)
        return torch.from_numpy(allowed_N)


def _ranks(place_R: np.ndarray) -> pa.Array:
    """Return ranks from 1, null for NOWHERE."""
    return pa.array((place_R + 1).astype(np.int32), mask=place_R == NOWHERE)
