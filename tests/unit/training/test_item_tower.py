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


def test_the_whole_catalog_in_order_is_not_copied_and_says_the_same() -> None:
    kept = in_memory(items())
    whole, shuffled = gather_items(kept, np.arange(4)), gather_items(kept, np.array([1, 0, 2, 3]))
    for name in ("text", "tags"):
        assert np.shares_memory(whole.vectors[name].numpy(), kept.vectors[name])
        assert whole.vectors[name].tolist() == kept.vectors[name].tolist()
        assert not np.shares_memory(shuffled.vectors[name].numpy(), kept.vectors[name])
        assert shuffled.vectors[name].tolist() == kept.vectors[name][[1, 0, 2, 3]].tolist()
    assert whole.present_SM.tolist() == kept.present_NM.tolist()


def test_some_items_in_order_are_copied_for_they_are_not_the_whole_catalog() -> None:
    kept = in_memory(items())
    some = gather_items(kept, np.arange(3))
    assert some.vectors["text"].tolist() == kept.vectors["text"][:3].tolist()
    assert not np.shares_memory(some.vectors["text"].numpy(), kept.vectors["text"])
