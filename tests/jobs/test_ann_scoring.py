"""Scoring by an index: its recall stands in the run record, and it is refused where it finds too little or cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import Chain, Night

from crossweave.stages.score import score_users
from crossweave.stages.train import train_alignment

pytest.importorskip("faiss")
SCORE = [("score", score_users)]
PRODUCT: dict[str, Any] = {"model__collaborative": {"edlae": None}, "score__top_k": 5, "evaluate__ks": [5]}


def lists(chain: Chain) -> list[tuple[str, int, str]]:
    return sorted((row["user_id"], row["rank"], row["item_id"]) for row in chain.table("recommendations"))


@pytest.fixture
def copy(night: Night, tmp_path: Path) -> Chain:
    return night.chain.copy(tmp_path / "ws")


def test_an_index_gives_measured_lists_of_a_product_and_is_refused_under_the_floor_and_on_a_blend(copy: Chain):
    blended = lists(copy)
    result = copy.run(SCORE, score__ann={"index": "ivf"})
    assert result["exit_code"] == 2
    assert "edlae" in result["error"]["message"]
    assert "score.ann.index=null" in result["error"]["hint"]
    assert lists(copy) == blended

    exact_result = copy.run([("train", train_alignment), *SCORE], **PRODUCT)
    assert exact_result["exit_code"] == 0, exact_result["error"]
    assert "score.ann_recall" not in exact_result["metrics"]
    exact = lists(copy)
    result = copy.run(SCORE, **PRODUCT, score__ann={"index": "ivf", "lists": 8, "probes": 8, "sample": 30})
    assert result["exit_code"] == 0, result["error"]
    assert result["metrics"]["score.ann_recall"] == 1.0  # all lists are looked at
    assert result["metrics"]["score.ann_sample_users"] == 30
    assert lists(copy) == exact
    assert len(list(copy.workspace.glob("models/*/ann.faiss"))) == 1

    narrow = {"index": "ivf", "lists": 8, "probes": 1, "floor": 1.0}
    result = copy.run(SCORE, **PRODUCT, score__ann=narrow)
    assert result["exit_code"] == 2
    assert "of the exact top 5" in result["error"]["message"]
    assert "score.ann.probes" in result["error"]["hint"]
    assert lists(copy) == exact
