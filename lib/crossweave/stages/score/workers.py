"""What a Spark task of the score stage does: users in, their lists with reasons out."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from pyspark import TaskContext

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
from crossweave.scoring.nearest import NONE, nearest_in_history
from crossweave.scoring.reasons import BEHAVIOUR, FRESHNESS, SIMILAR_ITEMS, Reasons, credit
from crossweave.scoring.reranks import build_reranks
from crossweave.scoring.reranks.base import NOWHERE, ItemFacts, places_in, reranked
from crossweave.scoring.rules import ItemRules
from crossweave.scoring.topk import PAD, Kernel, TopK
from crossweave.scoring.users import beyond_product, read_users
from crossweave.storage.location import Location
from crossweave.tables.schema import PAST_ITEM, RECOMMENDATIONS
from crossweave.tables.vectors import lists_of
from crossweave.training.item_tower import gather_items

USER_COLUMNS = ("user_id", "history", "seen", "user_index", "attributes", "segments", "blocked")
RULES, CANDIDATES = "rules.npz", "candidate"
"""Of the scored vectors: the file of the rules, the array of the candidates."""
REASON_USERS = 128  # users explained at a time: bounds the coalition vectors in memory


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


@dataclass(frozen=True)
class _Chosen:
    """R rows of lists, user after user."""

    user_R: np.ndarray  # int64, places in the part
    item_R: np.ndarray  # int64
    score_R: np.ndarray  # float32
    place_R: np.ndarray  # int64 from 0 in the list; NOWHERE: it fell out
    before_R: np.ndarray  # the same before anything re-ordered the list; NOWHERE: it was not there, or nothing does
    explored_R: np.ndarray  # bool

    @classmethod
    def of(cls, after: TopK, before: TopK | None = None, explored_UK: np.ndarray | None = None) -> _Chosen:
        """Lay lists end to end; what was in a list before and is no longer there follows behind."""
        user_R, place_R = np.nonzero(after.items_UK != PAD)
        item_R, score_R = after.items_UK[user_R, place_R], after.scores_UK[user_R, place_R]
        if before is None or explored_UK is None:
            nowhere_R = np.full(len(user_R), NOWHERE)
            return cls(user_R, item_R, score_R, place_R, nowhere_R, np.zeros(len(user_R), bool))
        before_R = places_in(before.items_UK, user_R, item_R)
        old_user_R, old_place_R = np.nonzero(before.items_UK != PAD)
        fell_R = places_in(after.items_UK, old_user_R, before.items_UK[old_user_R, old_place_R]) == NOWHERE
        old_user_R, old_place_R = old_user_R[fell_R], old_place_R[fell_R]
        return cls(
            np.concatenate([user_R, old_user_R]),
            np.concatenate([item_R, before.items_UK[old_user_R, old_place_R]]),
            np.concatenate([score_R, before.scores_UK[old_user_R, old_place_R]]),
            np.concatenate([place_R, np.full(len(old_user_R), NOWHERE)]),
            np.concatenate([before_R, old_place_R]),
            np.concatenate([explored_UK[user_R, place_R], np.zeros(len(old_user_R), bool)]),
        )

    def first(self, ranks: int) -> np.ndarray:
        """Say which rows are of the first ranks, bool [R]."""
        return (self.place_R != NOWHERE) & (self.place_R < ranks)


class _Scorer:
    """The model and the memory-mapped item vectors of this process."""

    def __init__(self, task: Task) -> None:
        self.settings = task.settings
        trained, scored = TrainedModel.open(task.model), ScoredVectors.open(task.scored)
        self.model, self.blend = trained.load(), trained.blend()
        load = lambda name: torch.from_numpy(scored.array(name))  # noqa: E731
        item_NE, bias_N = load("target"), load("bias")
        self.targets = Targets(item_NE, bias_N, load("query") if self.model.target_aware else None)
        self.center_E, self.history_ND = load("center"), load("history")
        self.candidate_N = np.array(scored.array(CANDIDATES))
        self.rules = ItemRules.load(scored.sealed.path(RULES)) if task.with_rules else None
        self.caps = self.rules.caps if self.rules is not None else ()
        self.kernels: dict[tuple[int, bool], Kernel] = {}
        self.indices: dict[tuple[int, bool], ApproximateKernel] = {}
        self.scored = scored
        boost_N = self.rules.boost_N if self.rules is not None else None
        self.boost_N = torch.from_numpy(boost_N) if boost_N is not None else None
        self.bias_N = bias_N if self.boost_N is None else bias_N + self.boost_N
        self.item_ids = scored.item_ids
        manifest = required_manifest(task.tensors)
        self.items, self.attributes = open_items(manifest), len(manifest.attributes)
        self.steps = build_reranks(task.settings.rerank or {})
        self.facts = ItemFacts(item_NE, self.center_E, self.items.popularity_N)
        self.cold_N = self.items.popularity_N == 0
        self.exploration = Exploration(task.settings.explore.share, task.settings.explore.first_rank, task.seed)
        self.reorders = bool(self.steps) or task.settings.explore.share > 0

    @torch.inference_mode()
    def score(self, rows: pa.RecordBatch, date: datetime.date) -> pa.RecordBatch:
        """Return recommendations, best first for each of the users in turn; `rows` are of one set of segments.

        Where something re-orders the lists, also what fell out of them: rows with a rank before, but none now.
        """
        whole = self._read(rows)
        chosen = self._choose(whole)
        known = {
            "run_date": pa.array(np.full(len(chosen.user_R), np.datetime64(date, "D")), pa.date32()),
            "user_id": rows.column("user_id").take(pa.array(chosen.user_R)),
            "rank": _ranks(chosen.place_R),
            "item_id": self.item_ids.take(pa.array(chosen.item_R)),
            "score": pa.array(chosen.score_R),
            "reasons": self._reasons(whole.users, chosen),
            "because": self._because(whole.histories, chosen),
            "rank_before": _ranks(chosen.before_R),
            "explored": pa.array(chosen.explored_R),
        }
        return pa.RecordBatch.from_arrays([known[name] for name in RECOMMENDATIONS.names], schema=RECOMMENDATIONS)

    def _choose(self, whole: _Part) -> _Chosen:
        """Make the lists: by score, at most n of a category, then re-ranked and with places for cold items."""
        by_score = self._ranker(whole)
        before = self._fill(by_score, whole)
        if not self.reorders:
            return _Chosen.of(before)
        after = self._fill(self._reranked(by_score), whole) if self.steps else before
        explored_UK = np.zeros(after.items_UK.shape, bool)
        if self.exploration.share:
            ids, cold = whole.rows.column("user_id").to_pylist(), self._ranker(whole, only_cold=True)
            after, explored_UK = explore(after, ids, self.cold_N, cold, self.exploration, self.caps)
        return _Chosen.of(after, before, explored_UK)

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
                self.scored.array(INDEXED),
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

    def _reasons(self, users: Users, listed: _Chosen) -> pa.MapArray:
        """Explain the first ranks of each user; the map of the others stays empty."""
        explained = listed.first(self.settings.reasons)
        counts = np.zeros(len(explained), np.int32)
        names: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for start in range(0, len(users), REASON_USERS):
            chosen = np.flatnonzero(explained & (listed.user_R >= start) & (listed.user_R < start + REASON_USERS))
            if not len(chosen):
                continue
            item_R = listed.item_R[chosen]
            wanted, position = np.unique(item_R, return_inverse=True)
            batch = gather_items(self.items, wanted)
            reasons = Reasons(self.model, batch)
            some, who_R = users.part(start, start + REASON_USERS), torch.from_numpy(listed.user_R[chosen] - start)
            shares_RP = reasons.shares(some, who_R, torch.from_numpy(position))
            has_SP = [batch.present_SM.numpy()]
            if BEHAVIOUR in reasons.players:
                has_SP.append(batch.known_S.numpy()[:, None])
            has_RP = np.concatenate(has_SP, axis=1)[position]  # a player that is not there has no share to name
            players = reasons.players
            boost_R = np.zeros(len(item_R), np.float32)
            if self.boost_N is not None:
                boost_R = self.boost_N.numpy()[item_R]
                players, shares_RP, has_RP = credit(FRESHNESS, boost_R, boost_R > 0, players, shares_RP, has_RP)
            if self.blend.members:
                # A blend is a sum, so its Shapley share is all that the collaborative models added.
                pairs_1R = self.targets.take(torch.from_numpy(item_R)[None])
                neural_R = self.model.pair_scores(some, who_R, pairs_1R)[0]
                added_R = listed.score_R[chosen] - neural_R.numpy() - boost_R
                known_R = batch.known_S.numpy()[position]
                for name, has_R in ((BEHAVIOUR, known_R), (SIMILAR_ITEMS, ~known_R)):
                    players, shares_RP, has_RP = credit(name, added_R, has_R, players, shares_RP, has_RP)
            counts[chosen] = has_RP.sum(1)
            names.append(np.array(players)[np.nonzero(has_RP)[1]])
            values.append(shares_RP[has_RP])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        keys = pa.array(np.concatenate(names) if names else [], pa.string())
        return pa.MapArray.from_arrays(
            pa.array(offsets), keys, pa.array(np.concatenate(values) if values else [], pa.float32())
        )

    def _because(self, histories: Histories, listed: _Chosen) -> pa.ListArray:
        """Name the nearest items of the user's history at the first ranks; the list of the others stays empty."""
        count = self.settings.reason_items
        near_RC = np.full((len(listed.item_R), count), NONE, np.int64)
        cosine_RC = np.zeros(near_RC.shape, np.float32)
        chosen = np.flatnonzero(listed.first(self.settings.reasons))
        user_R, item_R = listed.user_R[chosen], listed.item_R[chosen]
        near_RC[chosen], cosine_RC[chosen] = nearest_in_history(
            self.targets.item_SE, self.center_E, histories, user_R, item_R, count
        )
        found_RC = near_RC != NONE
        offsets = np.concatenate([[0], np.cumsum(found_RC.sum(1))]).astype(np.int32)
        pairs = [self.item_ids.take(pa.array(near_RC[found_RC])), pa.array(cosine_RC[found_RC])]
        values = pa.StructArray.from_arrays(pairs, fields=list(PAST_ITEM))
        return pa.ListArray.from_arrays(pa.array(offsets), values)


_SCORERS: dict[str, _Scorer] = {}
"""One scorer a worker process: Spark reuses processes for the tasks of a stage."""


def score_partition(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Score one partition of (user_id, history, seen, user_index, attributes)."""
    for scorer, part in _work(task, batches):
        yield scorer.score(part, task.date)


def compared_lists(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[float, int, int]]:
    """Yield the recall of the index, and of how many users, and how many of these it left to the exact kernel."""
    for scorer, part in _work(task, batches):
        share, exactly = scorer.compare(part)
        yield share, part.num_rows, exactly


def _work(task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[_Scorer, pa.RecordBatch]]:
    """Yield the scorer and one part of the users after the other; a partition is never gathered."""
    context = TaskContext.get()
    torch.set_num_threads(max(1, context.cpus() if context else 1))
    for batch in batches:
        if task.key not in _SCORERS:
            _SCORERS.clear()
            _SCORERS[task.key] = _Scorer(task)
        for part in _parts(batch, task.settings.block_users):
            yield _SCORERS[task.key], part


def _ranks(place_R: np.ndarray) -> pa.Array:
    """Return ranks from 1, null for NOWHERE."""
    return pa.array((place_R + 1).astype(np.int32), mask=place_R == NOWHERE)


def _parts(batch: pa.RecordBatch, most: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch into parts of at most `most` rows, each of one set of segments."""
    segments = batch.column("segments").to_numpy()
    starts = np.flatnonzero(np.diff(segments, prepend=segments[:1] - 1)).tolist()
    for start, stop in itertools.pairwise([*starts, batch.num_rows]):
        for first in range(start, stop, most):
            yield batch.slice(first, min(most, stop - first))
