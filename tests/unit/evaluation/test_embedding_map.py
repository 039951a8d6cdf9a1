"""The map of item vectors."""

from __future__ import annotations

import numpy as np
import pytest

from crossweave.evaluation.embedding_map import lay_out, neighbours_kept


def groups(count: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around six directions, and which."""
    random = np.random.default_rng(seed)
    group_N = random.integers(0, 6, count)
    return apart * np.eye(6, 24)[group_N] + random.normal(size=(count, 24)) * 0.3, group_N


def test_items_of_one_group_lie_together() -> None:
    vectors, group_N = groups(180, apart=3.0)
    places = lay_out(vectors)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (group_N[distances.argmin(axis=1)] == group_N).mean() > 0.98
    centres = np.stack([places[group_N == g].mean(axis=0) for g in range(6)])
    assert (np.linalg.norm(places[:, None] - centres[None], axis=2).argmin(axis=1) == group_N).mean() > 0.98


def test_the_map_fills_the_unit_square_and_is_the_same_every_time() -> None:
    vectors, _ = groups(60, apart=1.0)
    places = lay_out(vectors)
    assert places.min() >= 0 and places.max() <= 1
    assert np.ptp(places, axis=0).max() == pytest.approx(1.0)
    assert np.array_equal(places, lay_out(vectors))


def test_only_directions_count() -> None:
    vectors, _ = groups(40, apart=1.0)
    lengths = np.random.default_rng(1).uniform(0.5, 2.0, (40, 1))
    assert neighbours_kept(lengths * vectors, lay_out(vectors)) == neighbours_kept(vectors, lay_out(vectors))


def test_it_keeps_neighbours_about_as_well_as_scikit_learn() -> None:
    manifold = pytest.importorskip("sklearn.manifold", reason="scikit-learn is not installed")
    vectors, _ = groups(200, apart=0.8)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    theirs = manifold.TSNE(init="pca", method="exact", random_state=0).fit_transform(unit)
    assert neighbours_kept(vectors, lay_out(vectors)) > neighbours_kept(vectors, theirs) - 0.03


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 31])
def test_few_items_have_places_too(count: int) -> None:
    places = lay_out(groups(count, apart=1.0)[0])
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


@pytest.mark.parametrize("vectors", [np.zeros((12, 5)), np.ones((12, 1)), np.tile([[1.0, 2.0]], (9, 1))])
def test_items_that_are_all_alike_have_places_too(vectors: np.ndarray) -> None:
    assert np.isfinite(lay_out(vectors)).all()


def test_the_share_of_kept_neighbours_by_hand() -> None:
    # directions at 0°, 10°, 90°, 100°: nearest of each is its partner
    angles = np.radians([0, 10, 90, 100])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    together = np.array([[0, 0], [0.1, 0], [1, 1], [0.9, 1]])
    assert neighbours_kept(vectors, together, 1) == 1.0
    assert neighbours_kept(vectors, together[[0, 2, 1, 3]], 1) == 0.0
    # 0 and 3 lie together, 2 is nearest to 3, 1 to 2
    assert neighbours_kept(vectors, np.array([[0, 0], [9, 0], [2, 0], [1, 0]]), 1) == 0.25
