"""The index before the kernel: what it finds is scored and masked exactly, who gets too little is ranked exactly."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from crossweave.scoring.ann import INDEX, INDEXED, ApproximateKernel, build_index, equally_long, recall
from crossweave.scoring.topk import PAD, Kernel, TopK

pytest.importorskip("faiss")
ITEMS, USERS = 3000, 40


@dataclass(frozen=True)
class Choice:
    index: str = "ivf"
    lists: int | None = None
    probes: int = 8
    links: int = 16
    reach: int = 64


def both(folder, choice, allowed=None):
    """Return the approximate and the exact kernel over clustered items, and users."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 8))
    item = torch.tensor(centres[rng.integers(20, size=ITEMS)] + 0.3 * rng.standard_normal((ITEMS, 8))).float()
    bias = torch.tensor(rng.standard_normal(ITEMS)).float()
    user = torch.tensor(centres[rng.integers(20, size=USERS)] + 0.3 * rng.standard_normal((USERS, 8))).float()
    allowed = np.ones(ITEMS, bool) if allowed is None else allowed
    build_index(folder, item, bias, np.ones(ITEMS, bool), choice)
    exact = Kernel(item, bias, allowed_N=torch.tensor(allowed))
    indexed = np.load(folder / f"{INDEXED}.npy")
    index = ApproximateKernel(folder / INDEX, indexed, exact, item, bias, allowed_N=torch.tensor(allowed))
    return index, exact, user


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_index_finds_most_of_the_best_and_misses_some_where_it_looks_at_little(tmp_path, kind):
    shares = []
    for folder, much in (("little", 1), ("much", 64)):
        (tmp_path / folder).mkdir()
        found, exact, user = both(tmp_path / folder, Choice(kind, probes=much, links=max(4, much // 4), reach=2 * much))
        nothing = [np.zeros(0, np.int64)] * USERS
        shares.append(recall(found.best(user, 10, masked=nothing), exact.best(user, 10, masked=nothing)))
    assert shares[0] < shares[1]
    assert shares[1] > 0.95


def test_of_equally_long_vectors_the_nearest_is_the_one_with_the_largest_product():
    rng = np.random.default_rng(3)
    item = (rng.standard_normal((ITEMS, 8)) * rng.lognormal(0, 1, (ITEMS, 1))).astype(np.float32)
    user = rng.standard_normal((USERS, 8))
    longer = equally_long(item).astype(np.float64)
    np.testing.assert_allclose((longer**2).sum(axis=1), (item**2).sum(axis=1).max(), rtol=1e-5)
    distance = ((np.column_stack([user, np.zeros(USERS)])[:, None] - longer) ** 2).sum(axis=2)
    np.testing.assert_array_equal(distance.argmin(axis=1), (user @ item.T).argmax(axis=1))
    assert equally_long(item[:0]).shape == (0, 9)


def test_an_index_that_looks_everywhere_gives_the_exact_lists_under_masks_and_rules(tmp_path):
    rng = np.random.default_rng(1)
    found, exact, user = both(tmp_path, Choice(probes=10_000), allowed=rng.random(ITEMS) < 0.9)
    masked = [rng.choice(ITEMS, rng.integers(0, 100), replace=False) for _ in range(USERS)]
    got, want = found.best(user, 20, masked=masked), exact.best(user, 20, masked=masked)
    np.testing.assert_array_equal(got.items_UK, want.items_UK)
    np.testing.assert_allclose(got.scores_UK, want.scores_UK, rtol=1e-5, atol=1e-5)
    assert not len(found.ranked_exactly)


def test_who_is_left_with_fewer_than_k_is_ranked_exactly(tmp_path):
    found, exact, user = both(tmp_path, Choice(probes=1))
    seen = exact.best(user, ITEMS, masked=[[]] * USERS).items_UK
    masked = [seen[0][:-5], *[np.zeros(0, np.int64)] * (USERS - 1)]  # the first user has seen all but five
    got = found.best(user, 10, masked=masked)
    assert got.items_UK[0].tolist() == [*seen[0][-5:], *[PAD] * 5]
    assert 0 in found.ranked_exactly
    assert len(found.ranked_exactly) < USERS


def test_more_than_the_index_holds_and_no_users_are_defined(tmp_path):
    found, exact, user = both(tmp_path, Choice())
    got = found.best(user[:2], ITEMS + 1, masked=[[], []])
    np.testing.assert_array_equal(got.items_UK, exact.best(user[:2], ITEMS + 1, masked=[[], []]).items_UK)
    assert found.best(user[:0], 3, masked=[]).items_UK.shape == (0, 3)


def test_something_to_add_to_the_scores_is_refused(tmp_path):
    found, _, user = both(tmp_path, Choice())
    with pytest.raises(ValueError, match="products alone"):
        found.best(user, 3, masked=[[]] * USERS, addition=lambda scores, start, stop: None)


def test_recall_is_the_mean_share_of_the_users_with_a_list():
    exact = TopK(np.array([[1, 2], [3, PAD], [PAD, PAD]]), np.zeros((3, 2), np.float32))
    found = TopK(np.array([[2, 9], [3, 8], [PAD, PAD]]), np.zeros((3, 2), np.float32))
    assert recall(found, exact) == pytest.approx((0.5 + 1.0) / 2)
