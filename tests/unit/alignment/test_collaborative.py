"""Collaborative models and the content map, against what can be worked out by other means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from crossweave.alignment import COLLABORATIVE, find
from crossweave.alignment.blend import Blend, Member, save_members
from crossweave.alignment.collaborative.als import Als
from crossweave.alignment.collaborative.base import Collaborative
from crossweave.alignment.collaborative.content_map import ContentKernel, ContentMapSettings, content_map
from crossweave.alignment.collaborative.edlae import Edlae
from crossweave.alignment.collaborative.item_knn import ItemKnn
from crossweave.alignment.collaborative.propagation import Propagation
from crossweave.alignment.histories import Histories
from crossweave.alignment.spec import ModelSpec
from crossweave.artifacts.model import MODEL, TrainedModel
from crossweave.artifacts.sealed import building, publish
from crossweave.scoring.neighbours import nearest_items
from crossweave.storage.location import Location

SPARSE = {"dense_items": 1, "neighbours": 50}


def checkerboard(users: int = 60, items: int = 12) -> csr_matrix:
    """Even users took most even items, odd users most odd ones; the last item nobody took."""
    rng = np.random.default_rng(1)
    same = (np.arange(users)[:, None] + np.arange(items)) % 2 == 0
    taken = same & (rng.random((users, items)) < 0.8)
    taken[:, -1] = False
    return csr_matrix(taken.astype(np.float32))


def scores(model: Collaborative, *histories: list[int]) -> np.ndarray:
    """Score all twelve items, in two blocks."""
    blocks = model.blocks(Histories.from_lists([np.array(h, np.int64) for h in histories]))
    return torch.cat([blocks(0, 5), blocks(5, 12)], dim=1).numpy()


def alternate(seen: csr_matrix, rank: int, alpha: float, l2: float, iterations: int, seed: int) -> np.ndarray:
    """ALS row by row, as its equations stand in the paper, with the ridge growing with the interactions."""
    taken = seen.toarray().astype(np.float64)
    item = np.random.default_rng(seed).normal(0.0, 0.1, (taken.shape[1], rank))

    def half(taken: np.ndarray, other: np.ndarray) -> np.ndarray:
        rows = []
        for row in taken:
            weights = 1.0 + alpha * row
            system = other.T @ (weights[:, None] * other) + (l2 * row.sum() + 1e-9) * np.eye(rank)
            rows.append(np.linalg.solve(system, other.T @ (weights * row)))
        return np.array(rows)

    for _ in range(iterations):
        item = half(taken.T, half(taken, item))
    return item.astype(np.float32)


def neighbours(item_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    return nearest_items(item_ND, 0, len(item_ND), k)


@pytest.mark.parametrize("settings", [{}, SPARSE], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", sorted(COLLABORATIVE))
class TestEveryModel:
    def fit(self, name: str, settings: dict[str, int]) -> Collaborative:
        kind = find(COLLABORATIVE, "model", name)
        content = {"parity": np.eye(2, dtype=np.float32)[np.arange(12) % 2]}, np.ones((12, 1), bool)
        helpers = {"factorise": alternate, "neighbours": neighbours, "content": content}
        if "factorise" in kind.needs:
            settings = {"rank": 2}
        fitted: Collaborative = kind.fit(checkerboard(), **{n: helpers[n] for n in kind.needs}, **settings)
        return fitted

    def test_learns_who_goes_with_whom(self, name: str, settings: dict[str, int]) -> None:
        made = scores(self.fit(name, settings), [0, 2], [1, 3])
        even, odd = made[:, [4, 6, 8]], made[:, [5, 7, 9]]
        assert even[0].min() > odd[0].max()
        assert odd[1].min() > even[1].max()

    def test_an_empty_history_and_an_item_nobody_took_score_zero(self, name: str, settings: dict[str, int]) -> None:
        made = scores(self.fit(name, settings), [], [0, 2])
        assert not made[0].any()
        assert made[1, 11] == 0

    def test_a_saved_model_scores_the_same(self, name: str, settings: dict[str, int], tmp_path: Path) -> None:
        model = self.fit(name, settings)
        model.save(tmp_path)
        loaded = type(model).from_arrays({path.stem: np.load(path) for path in tmp_path.glob("*.npy")})
        np.testing.assert_array_equal(scores(loaded, [0, 2], []), scores(model, [0, 2], []))

    def test_a_new_item_gets_the_mixture_it_is_given(self, name: str, settings: dict[str, int]) -> None:
        model = self.fit(name, settings)
        before = scores(model, [0, 3])
        mixture = np.zeros((11, 1), np.float32)
        mixture[[4, 6], 0] = 0.25, 0.5
        for _ in range(2):  # placing again replaces
            model.place(np.array([11]), np.arange(11), mixture)
        after = scores(model, [0, 3])
        np.testing.assert_allclose(after[0, 11], 0.25 * before[0, 4] + 0.5 * before[0, 6], rtol=1e-5)
        np.testing.assert_allclose(after[:, :11], before[:, :11], rtol=1e-6)
        model.stretch(np.array([11]), 3.0)
        np.testing.assert_allclose(scores(model, [0, 3])[:, 11], 3.0 * after[:, 11], rtol=1e-5)
        np.testing.assert_allclose(scores(model, [0, 3])[:, :11], after[:, :11], rtol=1e-6)


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_edlae_is_the_minimum_of_its_objective(balance: float) -> None:
    """Each column is the ridge regression of an item on all others, solved here by least squares."""
    seen = checkerboard()
    dense = seen.toarray().astype(np.float64)[:, :11]
    weights = Edlae.fit(seen, dropout=0.33, l2=2.0, user_balance=balance).weights_NN
    length = dense.sum(axis=1)
    weight = length**-balance * length.sum() / (length ** (1 - balance)).sum()
    dense *= np.sqrt(weight)[:, None]  # a row's square counts so much
    count = (dense**2).sum(axis=0)
    ridge = 0.33 / 0.67 * count + 2.0 * count.mean()
    for item in range(11):
        others = np.delete(np.arange(11), item)
        system = np.vstack([dense[:, others], np.diag(np.sqrt(ridge[others]))])
        right = np.concatenate([dense[:, item], np.zeros(10)])
        expected = np.linalg.lstsq(system, right, rcond=None)[0]
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-6)
        assert weights[item, item] == 0


def test_sparse_edlae_with_all_neighbours_is_the_dense_one() -> None:
    seen = csr_matrix((np.random.default_rng(2).random((80, 12)) < 0.4).astype(np.float32))
    dense = Edlae.fit(seen).weights_NN
    sparse = Edlae.fit(seen, **SPARSE).weights_NN
    np.testing.assert_allclose(sparse.toarray(), dense, atol=1e-6)
    fewer = Edlae.fit(seen, dense_items=1, neighbours=3).weights_NN
    assert (np.diff(fewer.tocsc().indptr) == 3).all()


def kernel(settings: ContentMapSettings) -> ContentKernel:
    rng = np.random.default_rng(3)
    base = rng.standard_normal((10, 6)).astype(np.float32)
    base[9] = base[2]  # the new item is made as item 2 is
    noise = rng.standard_normal((10, 4)).astype(np.float32)
    present = np.ones((10, 2), bool)
    return ContentKernel({"text": base + 5.0, "noise": noise}, present, np.arange(10) < 9, settings)


@pytest.mark.parametrize("dense_items", [100, 1], ids=["one system", "a system a new item"])
def test_an_item_made_like_another_takes_its_place(dense_items: int) -> None:
    settings = ContentMapSettings({"text": 1.0, "noise": 0.0}, ridge=1e-3, dense_items=dense_items, neighbours=9)
    made = content_map(kernel(settings), np.arange(9), np.array([9]))
    mixture = np.asarray(made.todense() if dense_items == 1 else made).ravel()
    expected = np.zeros(9)
    expected[2] = 1.0
    np.testing.assert_allclose(mixture, expected, atol=0.02)


def test_both_content_maps_agree_where_the_neighbours_are_all_items() -> None:
    dense, sparse = (ContentMapSettings(dense_items=limit, neighbours=9) for limit in (100, 1))
    one = content_map(kernel(dense), np.arange(9), np.array([9]))
    other = content_map(kernel(sparse), np.arange(9), np.array([9]))
    np.testing.assert_allclose(other.toarray(), one, atol=1e-5)


def test_vectors_are_centred_and_missing_ones_are_like_nothing() -> None:
    """A constant added to all vectors of a modality changes nothing; a missing vector's content is not looked at."""
    rng = np.random.default_rng(4)
    vectors, present = rng.standard_normal((6, 3)).astype(np.float32), np.array([[True]] * 5 + [[False]])
    settings, all_items = ContentMapSettings(), np.arange(6)
    plain = ContentKernel({"a": vectors}, present, np.ones(6, bool), settings)(all_items, all_items)
    vectors[5] = 99.0
    moved = ContentKernel({"a": vectors + 7.0}, present, np.ones(6, bool), settings)(all_items, all_items)
    torch.testing.assert_close(moved, plain, atol=1e-5, rtol=1e-5)
    assert torch.allclose(plain[5], torch.full((6,), float(np.exp(-2.0))))


def test_a_blend_adds_each_model_times_its_weight(tmp_path: Path) -> None:
    seen = checkerboard()
    members = [Member("edlae", 3.0, Edlae.fit(seen)), Member("graph", 0.5, find(COLLABORATIVE, "m", "graph").fit(seen))]
    folder = Location.of(tmp_path / "model")
    with building(folder) as draft:
        weights = save_members(draft, members)
        spec = ModelSpec({"text": 2}, 12, 4, "attention", "mean", {}, 4, False, 0.0, 0.0)
        publish(MODEL, draft, folder, "print", {"spec": spec.as_json(), "collaborative": weights})
    assert weights == {"edlae": 3.0, "graph": 0.5}
    histories = Histories.from_lists([np.array([0, 2])])
    addition = TrainedModel.open(folder, "print").blend().additions(histories)
    assert addition is not None
    made = torch.ones(1, 7)
    addition(made, 5, 12)
    expected = 1 + 3.0 * scores(members[0].model, [0, 2]) + 0.5 * scores(members[1].model, [0, 2])
    np.testing.assert_allclose(made.numpy(), expected[:, 5:], rtol=1e-5)
    assert Blend([]).additions(histories) is None


def test_als_solves_a_user_as_its_objective_asks() -> None:
    seen = checkerboard()
    model = Als.fit(seen, alternate, rank=3, alpha=4.0, l2=0.2)
    row, item = seen.toarray()[7], model.item_NF.astype(np.float64)
    weights = 1.0 + 4.0 * row
    system = item.T @ (weights[:, None] * item) + 0.2 * row.sum() * np.eye(3)
    expected = item @ np.linalg.solve(system, item.T @ (weights * row))
    np.testing.assert_allclose(scores(model, np.flatnonzero(row).tolist())[0], expected, atol=1e-4)


def test_propagation_spreads_content_over_the_graph_of_items_taken_together() -> None:
    """With items linked to their nearest, the layers are powers of the normalised graph, built here by hand."""
    seen, rng = checkerboard(), np.random.default_rng(4)
    vectors, present = {"text": rng.standard_normal((12, 3)).astype(np.float32)}, np.ones((12, 1), bool)
    settings = {"rank": 2, "nearest": 3, "dim": 512}
    by_steps = [
        Propagation.fit(seen, alternate, neighbours, (vectors, present), steps=steps, **settings).item_ND
        for steps in (0, 1, 2)
    ]
    factors = alternate(seen, 2, 5.0, 0.1, 10, 17)
    unit = factors / np.maximum(np.linalg.norm(factors, axis=1, keepdims=True), 1e-9)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2.0)
    links = np.zeros((12, 12))
    for item in range(12):
        for other in np.argsort(-cosine[item], kind="stable")[:3]:
            links[item, other] = max(cosine[item, other], 0.0)
    links = np.maximum(links, links.T)
    root = np.sqrt(np.maximum(links.sum(axis=1), 1e-9))
    graph = links / root[:, None] / root
    content = by_steps[0][:11]
    inner = vectors["text"] - vectors["text"][:11].mean(axis=0)
    inner = (inner / np.linalg.norm(inner, axis=1, keepdims=True))[:11]
    np.testing.assert_allclose(content @ content.T, inner @ inner.T, atol=0.25)  # a random projection keeps them
    graph = graph[:11, :11]  # nobody took the last item: it has no factors and so no link
    np.testing.assert_allclose(by_steps[1][:11], (content + graph @ content) / 2, atol=1e-5)
    np.testing.assert_allclose(by_steps[2][:11], (content + graph @ content + graph @ graph @ content) / 3, atol=1e-5)


def test_item_knn_counts_common_users() -> None:
    seen = csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], np.float32))
    weights = ItemKnn.fit(seen, neighbours=1, shrink=1.0).weights_NN
    expected = np.zeros((4, 4))
    expected[1, 0] = expected[0, 1] = 2 / (np.sqrt(3 * 2) + 1)
    expected[1, 2] = 1 / (np.sqrt(2 * 1) + 1)  # the larger of 2's two neighbours
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    with pytest.raises(TypeError, match="neighbours"):
        ItemKnn.fit(seen, neighbours=0)
