"""Re-ranking and exploration from the settings to the tables, and what the evaluation says of them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import Chain, Night

from crossweave.stages.evaluate import EVALUATE
from crossweave.stages.score import SCORE

pytestmark = pytest.mark.slow

TWO_STAGES = [SCORE, EVALUATE]
Row = dict[str, Any]


def by_user(rows: list[Row]) -> dict[str, list[Row]]:
    found = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["rank"]):
        found[row["user_id"]].append(row)
    return found


def items(rows: list[Row]) -> dict[str, list[str]]:
    return {user: [row["item_id"] for row in own] for user, own in by_user(rows).items()}


@pytest.fixture
def copy(night: Night, tmp_path: Path) -> Chain:
    return night.chain.copy(tmp_path / "ws")


def test_re_ranked_and_explored_lists_keep_what_was_before_and_the_evaluation_compares_both(night: Night, copy: Chain):
    plain = by_user(night.chain.table("recommendations"))
    result = copy.run(
        TWO_STAGES,
        score__rerank={"popularity": {"weight": 0.3}, "mmr": {"relevance": 0.6}},
        score__rerank_pool=30,
        score__explore={"share": 0.2, "first_rank": 6},
    )
    assert result["exit_code"] == 0, result["error"]
    before, after = by_user(copy.table("lists_before")), by_user(copy.table("recommendations"))
    assert items(copy.table("lists_before")) == items(night.chain.table("recommendations"))
    taken = {row["item_id"] for row in night.chain.table("interactions") if row["split"] == "train"}
    cold = {row["item_id"] for row in night.chain.table("catalog")} - taken
    seen = {(row["user_id"], row["item_id"]) for row in night.chain.table("interactions") if row["split"] == "valid"}
    moved = 0
    for user, rows in after.items():
        place = {row["item_id"]: row["rank"] for row in before[user]}
        assert [row["rank"] for row in rows] == list(range(1, len(plain[user]) + 1))
        assert [row["rank_before"] for row in rows] == [place.get(row["item_id"]) for row in rows]
        assert len({row["item_id"] for row in rows}) == len(rows)
        scores = {row["item_id"]: row["score"] for row in plain[user]}
        assert all(row["score"] == pytest.approx(scores.get(row["item_id"], row["score"]), abs=1e-5) for row in rows)
        for row in rows:
            if row["explored"]:
                assert row["item_id"] not in taken
                assert row["rank"] >= 6
        if len(rows) == 20:
            there = sum((user, item) not in seen for item in cold)
            assert sum(row["item_id"] in cold for row in rows) >= min(4, there) > 0
        assert all(row["reasons"] for row in rows[:10])
        moved += [row["item_id"] for row in rows] != [row["item_id"] for row in plain[user]]
    assert moved > len(after) / 2
    assert sum(row["explored"] for row in copy.table("recommendations")) > 0
    metrics, first = result["metrics"], night.result["metrics"]
    for name in ("ndcg@20", "recall@5"):
        assert metrics[f"evaluate.before.{name}"] == pytest.approx(first[f"evaluate.{name}"])
    table = {(row["slice"], row["metric"], row["k"]): row["value"] for row in copy.table("metrics")}
    assert table["re-ranking and exploration: before", "ndcg", 20] == pytest.approx(first["evaluate.ndcg@20"])
    assert table["re-ranking and exploration: after", "ndcg", 20] == pytest.approx(metrics["evaluate.ndcg@20"])
    assert ("places by exploration: explored", "precision", 20) in table
    page = (copy.workspace / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "re-ranking and exploration" in page


def test_steps_that_weigh_nothing_leave_every_list_as_it_was(night: Night, copy: Chain):
    result = copy.run(TWO_STAGES, score__rerank={"mmr": {"relevance": 1.0}, "popularity": {"weight": 0.0}})
    assert items(copy.table("recommendations")) == items(night.chain.table("recommendations"))
    assert all(row["rank_before"] == row["rank"] for row in copy.table("recommendations"))
    metrics = result["metrics"]
    assert (
        metrics["evaluate.before.ndcg@20"] == metrics["evaluate.ndcg@20"] == night.result["metrics"]["evaluate.ndcg@20"]
    )
    assert np.isfinite(metrics["evaluate.before.coverage@20"])


def test_a_step_that_does_not_exist_is_refused_before_anything_starts(night: Night):
    assert night.chain.attempt(score__rerank={"mrr": {}}) == 2
    assert "unknown re-rank step 'mrr'" in night.chain.said[0]


def test_without_re_ordering_the_columns_of_it_are_empty_and_there_is_no_second_table(night: Night):
    rows = night.chain.table("recommendations")
    assert {row["rank_before"] for row in rows} == {None}
    assert {row["explored"] for row in rows} == {False}
    assert not (night.chain.workspace / "tables" / "lists_before").exists()
