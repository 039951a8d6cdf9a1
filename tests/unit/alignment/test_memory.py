"""Closed-form models count what they allocate, before they do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from crossweave.alignment import memory
from crossweave.alignment.collaborative import item_item
from crossweave.alignment.collaborative.content_map import ContentKernel, ContentMapSettings, content_map
from crossweave.alignment.collaborative.edlae import Edlae
from crossweave.alignment.collaborative.graph import Graph
from crossweave.alignment.collaborative.item_knn import ItemKnn
from crossweave.errors import SettingsError

MANY = 3_000_000  # items, most of them never taken: as one matrix 36 TB


def few_warm(items: int) -> csr_matrix:
    """Twelve warm items at the end of a catalog."""
    taken = (np.random.default_rng(1).random((40, 12)) < 0.4).astype(np.float32)
    rows, columns = np.nonzero(taken)
    return csr_matrix((np.ones(len(rows), np.float32), (rows, items - 12 + columns)), shape=(40, items))


def test_edlae_of_a_large_catalog_with_few_warm_items_is_sparse_and_weighs_them_as_the_dense_one_does() -> None:
    large, small = Edlae.fit(few_warm(MANY)).weights_NN, Edlae.fit(few_warm(12)).weights_NN
    assert large.shape == (MANY, MANY)
    np.testing.assert_allclose(large[MANY - 12 :, MANY - 12 :].toarray(), small, atol=1e-6)
    assert large.nnz <= 12 * 12


def test_the_graph_of_a_large_catalog_is_made_some_columns_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Graph.fit(few_warm(40), dense_items=1, neighbours=5).weights_NN.toarray()
    monkeypatch.setattr("crossweave.alignment.collaborative.graph.COLUMNS_AT_ONCE", 7)
    np.testing.assert_array_equal(Graph.fit(few_warm(40), dense_items=1, neighbours=5).weights_NN.toarray(), whole)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Edlae, "edlae of 40 items, 12 of them warm, dense"),
        (Graph, "graph of 40 items"),
        (ItemKnn, "item_knn of 40 it"),
    ],
)
def test_what_this_machine_cannot_hold_is_refused_naming_the_setting(
    monkeypatch: pytest.MonkeyPatch, kind: type, words: str
) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 1000)
    with pytest.raises(SettingsError) as caught:
        kind.fit(few_warm(40))
    assert words in caught.value.message
    assert "dense_items" in caught.value.message + caught.value.hint
    assert "GB of memory" in caught.value.message


def test_a_map_of_few_warm_items_to_many_new_ones_is_sparse() -> None:
    rng = np.random.default_rng(2)
    vectors = {"text": rng.standard_normal((30, 4)).astype(np.float32)}
    settings = ContentMapSettings(dense_items=20, neighbours=256)
    kernel = ContentKernel(vectors, np.ones((30, 1), bool), np.ones(30, bool), settings)
    made = content_map(kernel, np.arange(6), np.arange(6, 30))
    assert made.shape == (6, 24)
    dense = ContentKernel(vectors, np.ones((30, 1), bool), np.ones(30, bool), ContentMapSettings(dense_items=30))
    np.testing.assert_allclose(made.toarray(), content_map(dense, np.arange(6), np.arange(6, 30)), atol=1e-4)


def test_new_items_are_placed_some_at_a_time_and_keep_their_strongest_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def placed() -> np.ndarray:
        model = Edlae.fit(few_warm(30), dense_items=1)
        mixtures = np.random.default_rng(3).standard_normal((12, 18)).astype(np.float32)
        model.place(np.arange(18), np.arange(18, 30), mixtures)
        return model.weights_NN.toarray()

    whole = placed()
    monkeypatch.setattr(item_item, "COLUMNS_AT_ONCE", 5)
    np.testing.assert_allclose(placed(), whole, atol=1e-6)
    monkeypatch.setattr(item_item, "KEPT", 3)
    kept = placed()[:, :18]
    assert ((kept != 0).sum(axis=0) <= 3).all()
    np.testing.assert_allclose(np.abs(kept).max(axis=0), np.abs(whole[:, :18]).max(axis=0), atol=1e-6)
