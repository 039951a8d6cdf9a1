"""A second evaluation says how it compares with the lists of the run before, for the same users."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Night

from crossweave.stages.evaluate import EVALUATE
from crossweave.stages.score import SCORE

pytestmark = pytest.mark.slow

BASELINES = {"evaluate__baselines": ["item_knn", "ease", "content_knn"], "evaluate__ease_items": 10}


def test_other_lists_are_compared_with_those_of_the_run_before(night: Night, tmp_path: Path) -> None:
    chain, before = night.chain.copy(tmp_path / "ws"), night.result["metrics"]
    assert "evaluate.previous.ndcg@20" not in before
    assert before["evaluate.popularity.ndcg@20.difference"] == pytest.approx(
        before["evaluate.ndcg@20"] - before["evaluate.popularity.ndcg@20"]
    )
    assert 0 < before["evaluate.item_knn.ndcg@20"] <= 1
    assert before["evaluate.item_knn.recall@5"] != before["evaluate.popularity.recall@5"]
    assert "evaluate.ease.ndcg@20" not in before  # not among the default's baselines
    stages = [SCORE, EVALUATE]
    result = chain.run(stages, date="2026-01-03", score__explore__share=0.5, **BASELINES)
    assert result["exit_code"] == 0, result["error"]
    now = result["metrics"]
    assert now["evaluate.previous.ndcg@20"] == pytest.approx(before["evaluate.ndcg@20"])
    difference = now["evaluate.ndcg@20"] - before["evaluate.ndcg@20"]
    assert difference < 0  # half of the places went to items that nobody knows
    assert now["evaluate.previous.ndcg@20.difference"] == pytest.approx(difference)
    assert now["evaluate.content_knn.ndcg@20"] > 0
    assert "evaluate.ease.ndcg@20" not in now
    assert any("not compared with ease: the catalog has" in line for line in chain.said)
    report = (chain.workspace / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "the run before" in report
    assert "worse" in report
    assert "Not compared with ease" in report
    assert "content_knn" in report
    again = chain.run(stages, date="2026-01-03", score__explore__share=0.5, evaluate__bootstrap=40)["metrics"]
    assert again["evaluate.previous.ndcg@20"] == now["evaluate.previous.ndcg@20"]  # not tonight's own, served by now
