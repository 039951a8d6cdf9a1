"""A second evaluation says how it compares with the lists of the run before, for the same users."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Night

from crossweave.stages.evaluate import evaluate
from crossweave.stages.score import score_users


def test_other_lists_are_compared_with_those_of_the_run_before(night: Night, tmp_path: Path) -> None:
    chain, before = night.chain.copy(tmp_path / "ws"), night.result["metrics"]
    assert "evaluate.previous.ndcg@20" not in before
    assert before["evaluate.popularity.ndcg@20.difference"] == pytest.approx(
        before["evaluate.ndcg@20"] - before["evaluate.popularity.ndcg@20"]
    )
    stages = [("score", score_users), ("evaluate", evaluate)]
    result = chain.run(stages, date="2026-01-03", score__explore__share=0.5)
    assert result["exit_code"] == 0, result["error"]
    now = result["metrics"]
    assert now["evaluate.previous.ndcg@20"] == pytest.approx(before["evaluate.ndcg@20"])
    difference = now["evaluate.ndcg@20"] - before["evaluate.ndcg@20"]
    assert difference < 0  # half of the places went to items that nobody knows
    assert now["evaluate.previous.ndcg@20.difference"] == pytest.approx(difference)
    report = (chain.workspace / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "the run before" in report
    assert "worse" in report
