"""Approximate top-K: a faiss index names the items that are looked at; their scores, and the masks, are exact.

user · item + bias is an inner product of vectors with one number more, 1 and the bias, so an index of largest inner
products finds it: inverted lists (`ivf`; Jégou et al. 2011) or a navigable graph (`hnsw`; Malkov and Yashunin 2018).

Shape letters: U users, N items, D dim, K top, A items in the index, F found items of a user, C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from crossweave.errors import SettingsError
from crossweave.scoring.running import RunningBest
from crossweave.scoring.topk import PAD, Kernel, TopK

INDEX, INDEXED = "ann.faiss", "ann_items"
"""Files of an index: itself, and the array of the items in it."""
ROWS_A_CENTRE = 39  # faiss wants as many to place a centre well
MOST_FOUND = 8  # times K: a user who needs more to be left with K is scored exactly
BUILD_REACH = 200  # hnsw: candidates kept while links are laid
CHUNK = 8192  # candidates rescored at a time


class IndexSettings(Protocol):
    """How an index is built and searched."""

    index: Literal["ivf", "hnsw"] | None
    lists: int | None
    probes: int
    links: int
    reach: int


def build_index(folder: Path, item_ND: Tensor, bias_N: Tensor, allowed_N: np.ndarray, settings: IndexSettings) -> None:
    """Write an index of the allowed items into a folder.

    Raises SettingsError without faiss.
    """
    faiss = load_faiss()
    items = np.flatnonzero(allowed_N)
    vector_AE = np.column_stack([item_ND.numpy()[items], bias_N.numpy()[items]]).astype(np.float32)
    if settings.index == "hnsw":
        vector_AE = equally_long(vector_AE)
        index = faiss.IndexHNSWFlat(vector_AE.shape[1], settings.links, faiss.METRIC_L2)
        index.hnsw.efConstruction = BUILD_REACH
        index.hnsw.efSearch = settings.reach
    else:
        lists = settings.lists or min(round(4 * math.sqrt(len(items))), len(items) // ROWS_A_CENTRE)
        lists = max(1, min(lists, len(items)))
        centres = faiss.IndexFlatIP(vector_AE.shape[1])
        index = faiss.IndexIVFFlat(centres, vector_AE.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = settings.probes
    if len(items):
        index.train(vector_AE)
        index.add(vector_AE)
    np.save(folder / f"{INDEXED}.npy", items)
    faiss.write_index(index, str(folder / INDEX))


def equally_long(vector_AE: np.ndarray) -> np.ndarray:
    """Return the vectors with one number more, so that who has the largest product with a query is the nearest to it.

    A navigable graph over products links badly, since long vectors are near to everybody; the reduction of products to
    distances is that of Bachrach et al. 2014.
    """
    square_A = (vector_AE.astype(np.float64) ** 2).sum(axis=1)
    missing_A = np.sqrt(square_A.max(initial=0.0) - square_A)
    return np.column_stack([vector_AE, missing_A]).astype(np.float32)


class ApproximateKernel:
    """Ranks by an index of a folder; who is left with fewer than K items by it is ranked exactly."""

    def __init__(
        self, index: Path, indexed_A: np.ndarray, exact: Kernel, item_ND: Tensor, bias_N: Tensor, *, allowed_N: Tensor
    ) -> None:
        """Map the index into memory, which the processes of a host share; `indexed_A` are its items.

        `exact` has the same items. Raises SettingsError without faiss.
        """
        faiss = load_faiss()
        self._index: Any = faiss.read_index(str(index), faiss.IO_FLAG_MMAP)
        self._items_A = indexed_A
        self._exact, self._item_ND, self._bias_N = exact, item_ND, bias_N
        self._allowed_N = allowed_N.numpy()
        self.ranked_exactly = np.empty(0, np.int64)
        """Places of the users of the last call whom the index left with too few items."""

    def best(
        self,
        user_UD: Tensor,
        k: int,
        *,
        masked: Sequence[np.ndarray],
        addition: Callable[[Tensor, int, int], None] | None = None,
    ) -> TopK:
        """Return the K best that the index finds of every user, as `Kernel.best` does; ValueError for an addition."""
        if addition is not None:
            raise ValueError("an index knows products alone; there is something to add to the scores")
        found = min(len(self._items_A), 2 * k + max((len(row) for row in masked), default=0), MOST_FOUND * k)
        if not len(user_UD) or found < k:
            self.ranked_exactly = np.arange(len(user_UD))
            return self._exact.best(user_UD, k, masked=masked)
        dim = user_UD.shape[1]
        query_UE = np.zeros((len(user_UD), self._index.d), np.float32)  # the number that makes items equally long: 0
        query_UE[:, :dim], query_UE[:, dim] = user_UD.numpy(), 1
        place_UF = self._index.search(query_UE, found)[1]
        item_UF = self._items_A[np.maximum(place_UF, 0)]
        fits_UF = (place_UF != PAD) & self._allowed_N[item_UF] & ~_hidden(item_UF, masked, len(self._allowed_N))
        enough_U = fits_UF.sum(axis=1) >= k
        user_C, column_C = np.nonzero(fits_UF & enough_U[:, None])
        users, items = torch.from_numpy(user_C), torch.from_numpy(item_UF[user_C, column_C])
        best = RunningBest(len(user_UD), k, user_UD.device)
        best.add(users, self._scores(user_UD, users, items), items)
        score_UK, item_UK = (part.numpy() for part in best.result())
        self.ranked_exactly = left = np.flatnonzero(~enough_U)
        if len(left):
            rest = self._exact.best(user_UD[torch.from_numpy(left)], k, masked=[masked[user] for user in left])
            item_UK[left], score_UK[left] = rest.items_UK, rest.scores_UK
        return TopK(item_UK, score_UK)

    def _scores(self, user_UD: Tensor, user_C: Tensor, item_C: Tensor) -> Tensor:
        parts = [
            torch.einsum("ce,ce->c", user_UD[user_C[some]], self._item_ND[item_C[some]]) + self._bias_N[item_C[some]]
            for some in (slice(start, start + CHUNK) for start in range(0, len(user_C), CHUNK))
        ]
        return torch.cat(parts) if parts else user_UD.new_empty(0)


def recall(found: TopK, exact: TopK) -> float:
    """Return the share of the exact lists' items that are in the found ones, mean of the users with a list."""
    shares = [
        np.isin(right[right != PAD], left).mean()
        for left, right in zip(found.items_UK, exact.items_UK, strict=True)
        if (right != PAD).any()
    ]
    return float(np.mean(shares)) if shares else 1.0


def _hidden(item_UF: np.ndarray, masked: Sequence[np.ndarray], items: int) -> np.ndarray:
    """Say which of the found items are masked for their user."""
    of_user = [np.asarray(row, np.int64) + user * items for user, row in enumerate(masked)]
    pairs = item_UF + np.arange(len(item_UF))[:, None] * items
    return np.isin(pairs, np.concatenate(of_user)) if of_user else np.zeros(item_UF.shape, bool)


def load_faiss() -> ModuleType:
    """Return faiss, set to as many threads as torch has here; raises SettingsError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise SettingsError(
            "score.ann.index needs faiss, which is not installed", "pip install faiss-cpu, or set it to null"
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    module: ModuleType = faiss
    return module
