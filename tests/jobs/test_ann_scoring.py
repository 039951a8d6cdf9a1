"""Scoring by an index: its recall stands in the run record, and it is refused where it finds too little or cannot."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import Chain, Night

from crossweave.errors import SettingsError
from crossweave.stages.score import SCORE, check_scoring
from crossweave.stages.train import TRAIN

pytestmark = pytest.mark.slow

pytest.importorskip("faiss")
PRODUCT: dict[str, Any] = {"model__collaborative": {"edlae": None}, "score__top_k": 5, "evaluate__ks": [5]}
EVERYWHERE = {"index": "ivf", "lists": 8, "probes": 8}


def lists(chain: Chain) -> list[tuple[str, int, str]]:
    return sorted((row["user_id"], row["rank"], row["item_id"]) for row in chain.table("recommendations"))


def sets(chain: Chain) -> dict[str, set[str]]:
    found = defaultdict(set)
    for user, _, item in lists(chain):
        found[user].add(item)
    return found


@pytest.fixture(scope="module")
def product(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A workspace whose model's score is one product."""
    chain = night.chain.copy(tmp_path_factory.mktemp("product") / "ws")
    assert chain.run([TRAIN], **PRODUCT)["exit_code"] == 0
    return chain


@pytest.fixture
def copy(product: Chain, tmp_path: Path) -> Chain:
    return product.copy(tmp_path / "ws")


def test_an_index_gives_measured_lists_of_a_product_and_is_refused_under_the_floor(copy: Chain):
    exact_result = copy.run([SCORE], **PRODUCT)
    assert exact_result["exit_code"] == 0, exact_result["error"]
    assert "score.ann_recall" not in exact_result["metrics"]
    exact = lists(copy)
    result = copy.run([SCORE], **PRODUCT, score__ann=EVERYWHERE | {"sample": 30})
    assert result["exit_code"] == 0, result["error"]
    assert result["metrics"]["score.ann_recall"] == 1.0  # all lists are looked at
    assert result["metrics"]["score.ann_sample_users"] == 30
    assert lists(copy) == exact
    assert len(list(copy.workspace.glob("scored/*/ann.faiss"))) == 1

    narrow = {"index": "ivf", "lists": 8, "probes": 1, "floor": 1.0}
    result = copy.run([SCORE], **PRODUCT, score__ann=narrow)
    assert result["exit_code"] == 2
    assert "of the exact top 5" in result["error"]["message"]
    assert "score.ann.probes" in result["error"]["hint"]
    assert lists(copy) == exact


def test_lists_of_an_index_obey_rules_and_its_recall_is_that_of_the_lists_under_them(copy: Chain):
    countries = {r["user_id"]: r["country"] for r in pq.read_table(copy.root / "users.parquet").to_pylist()}
    country = Counter(countries.values()).most_common(1)[0][0]
    category = {r["item_id"]: dict(r["attributes"]).get("category") for r in copy.table("catalog")}
    rules = {
        "segments": {"locals": {"users": f"country = '{country}'", "items": "category = 'lamp'"}},
        "at_most": {"category": 2},
    }
    assert copy.run([SCORE], **PRODUCT, score__rules=rules)["exit_code"] == 0
    exact, exact_lists = sets(copy), lists(copy)
    locals_ = {user for user in exact if countries.get(user) == country}
    assert 0 < len(locals_) < len(exact)
    assert all(len(exact[user]) <= 2 for user in locals_)  # two lamps: too few, however deep the index looks

    result = copy.run([SCORE], **PRODUCT, score__rules=rules, score__ann=EVERYWHERE)
    assert result["exit_code"] == 0, result["error"]
    assert lists(copy) == exact_lists
    assert result["metrics"]["score.ann_recall"] == 1.0
    assert len(locals_) <= result["metrics"]["score.ann_sample_users_ranked_exactly"] <= len(exact)

    narrow = {"index": "ivf", "lists": 8, "probes": 2, "floor": 0.0}
    result = copy.run([SCORE], **PRODUCT, score__rules=rules, score__ann=narrow)
    assert result["exit_code"] == 0, result["error"]
    found = sets(copy)
    assert {user: len(own) for user, own in found.items()} == {user: len(own) for user, own in exact.items()}
    for user, own in found.items():
        taken = Counter(category[item] for item in own)
        assert max((count for value, count in taken.items() if value is not None), default=0) <= 2
        assert user not in locals_ or set(taken) <= {"lamp"}
    assert all(found[user] == exact[user] for user in locals_)  # ranked exactly
    share = sum(len(found[user] & own) / len(own) for user, own in exact.items()) / len(exact)
    assert result["metrics"]["score.ann_recall"] == pytest.approx(share)
    assert share < 1.0


def test_a_model_that_no_index_can_search_is_refused_by_its_own_parts(night: Night, tmp_path: Path):
    blended = night.chain.copy(tmp_path / "ws")
    result = blended.run([SCORE], **PRODUCT, score__ann=EVERYWHERE)  # the settings allow it, the model there does not
    assert result["exit_code"] == 2
    assert "edlae" in result["error"]["message"]
    assert "score.ann.index=null" in result["error"]["hint"]
    assert lists(blended) == lists(night.chain)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({}, "this model adds those of edlae"),
        ({"collaborative": {"edlae": None, "graph": {}}}, "this model adds those of graph"),
        ({"collaborative": {"edlae": None}, "head": "mlp"}, "that of the head mlp"),
        ({"collaborative": {"edlae": None}, "user_tower": "target_attention"}, "the user tower target_attention"),
    ],
)
def test_settings_that_train_no_product_are_refused_before_the_training(night: Night, model, named: str):
    parts = {f"model__{name}": value for name, value in model.items()}
    before = (night.chain.workspace / "receipts" / "train.json").read_bytes()
    assert night.chain.attempt(**parts, score__ann={"index": "hnsw"}) == 2
    assert named in " ".join(night.chain.said)
    assert (night.chain.workspace / "receipts" / "train.json").read_bytes() == before


def test_settings_that_train_a_product_pass(make_settings):
    check_scoring(make_settings(model__collaborative={"edlae": None}, score__ann__index="hnsw"))
    with pytest.raises(SettingsError, match="edlae"):
        check_scoring(make_settings(score__ann__index="hnsw"))
