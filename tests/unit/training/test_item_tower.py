from __future__ import annotations

import numpy as np
import torch

from crossweave.feeding.items import ItemTensors
from crossweave.training.item_tower import gather_items, in_memory


def items() -> ItemTensors:
    vectors = {"text": np.arange(12, dtype=np.float16).reshape(4, 3), "tags": np.ones((4, 2), np.float16)}
    return ItemTensors(vectors, np.ones((4, 2), bool), np.array([5, 0, 1, 2], np.float32), np.ones(4, bool))


def test_features_that_fit_the_budget_are_kept_as_float32_and_gathered_alike() -> None:
    kept = in_memory(items(), budget=4 * (12 + 8))
    assert {array.dtype for array in kept.vectors.values()} == {np.dtype(np.float32)}
    index = np.array([2, 0])
    straight, cached = gather_items(items(), index), gather_items(kept, index)
    for name in ("text", "tags"):
        assert cached.vectors[name].dtype == torch.float32
        torch.testing.assert_close(cached.vectors[name], straight.vectors[name])
    assert cached.known_S.tolist() == [True, True]


def test_features_beyond_the_budget_stay_where_they_are() -> None:
    given = items()
    assert in_memory(given, budget=4 * (12 + 8) - 1) is given
