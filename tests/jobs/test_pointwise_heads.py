"""The heads of the losses rating and click, judged on held-out pairs: against the tables and the lists."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from steps import strangers
from support import Chain, Night, stage

from crossweave.artifacts.model import TrainedModel
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import load_manifest
from crossweave.stages.evaluate import EVALUATE
from crossweave.stages.evaluate.pointwise import predict_pairs
from crossweave.stages.score import SCORE
from crossweave.stages.train import TRAIN
from crossweave.tables.served import Chain as Receipts

pytestmark = pytest.mark.slow

MODEL = {
    "train__max_epochs": 2,
    "model__user_tower": "mean",
    "model__user_attributes": False,
    "model__collaborative": {"edlae": None},
    "model__losses__rating": 0.5,
    "model__losses__click": 0.5,
}
STAGES = [TRAIN, SCORE, EVALUATE]


def test_ratings_and_clicks_are_judged_on_the_held_out_pairs(night: Night, tmp_path: Path) -> None:
    assert not any(name.startswith(("evaluate.rating", "evaluate.click")) for name in night.result["metrics"])
    chain = night.chain.copy(tmp_path / "ws")
    result = chain.run(STAGES, **MODEL)
    assert result["exit_code"] == 0, result["error"]
    got = {n.removeprefix("evaluate."): v for n, v in result["metrics"].items()}
    weights = _weights(chain)
    mean = np.mean(list(weights["train"].values()))
    held_out = np.array(list(weights["test"].values()))
    assert got["rating.pairs"] == len(held_out)
    known, wanted = (
        Counter(user for split in splits for user, _ in weights[split])
        for splits in (("train", "valid", "test"), ("test",))
    )
    items = len(chain.table("item_index"))
    assert got["click.pairs"] == len(held_out) + sum(min(n, items - known[user]) for user, n in wanted.items())
    assert 0 < got["rating.mae"] <= got["rating.rmse"] < 2 * np.sqrt(((held_out - mean) ** 2).mean())
    assert 0 < got["click.log_loss"] < 2 * np.log(2)
    assert 0 <= got["click.calibration_error"] <= 1
    assert 0 <= got["click.accuracy"] <= 1
    page = (chain.workspace / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "Ratings and clicks" in page
    assert "Calibration of clicks" in page
    _a_prediction_is_that_of_the_served_score(chain)
    again = chain.run([EVALUATE], **MODEL, evaluate__pointwise_users=0)
    assert "evaluate.rating.rmse" not in again["metrics"]
    assert stage(again, "evaluate")["notes"] == []


def _weights(chain: Chain) -> dict[str, dict[tuple[str, str], float]]:
    """The weight of each pair's latest interaction, by split."""
    latest: dict[str, dict] = defaultdict(dict)
    rows = chain.table("interactions")
    for row in sorted(rows, key=lambda row: (row["event_time"] is not None, row["event_time"], row["weight"])):
        latest[row["split"]][row["user_id"], row["item_id"]] = row["weight"]
    return latest


def _a_prediction_is_that_of_the_served_score(chain: Chain) -> None:
    """Without a blend the score of the lists is the neural one, so a click's probability is σ(a · score + b)."""
    receipts = Receipts.latest(chain.workspace)
    manifest = load_manifest(chain.workspace / "tensors" / receipts.tensor_set)
    assert manifest is not None
    model, items = TrainedModel.open(chain.workspace / "models" / receipts.model).load(), open_items(manifest)
    place = {row["item_id"]: row["item_index"] for row in chain.table("item_index")}
    history: dict[str, set[int]] = defaultdict(set)
    for row in chain.table("interactions"):
        if row["split"] == "train":
            history[row["user_id"]].add(place[row["item_id"]])
    listed = defaultdict(list)
    for row in chain.table("recommendations"):
        listed[row["user_id"]].append((place[row["item_id"]], row["score"]))
    users = sorted(listed)
    past = [np.array(sorted(history[user]), np.int64) for user in users]
    pairs = [np.array([item for item, _ in listed[user]]) for user in users]
    scores_R = torch.tensor([score for user in users for _, score in listed[user]])
    with torch.inference_mode():
        clicks_R = predict_pairs(model, items, past, strangers(len(users)), pairs, "click")
        ratings_R = predict_pairs(model, items, past, strangers(len(users)), pairs, "rating")
    click = model.losses["click"]
    expected_R = torch.sigmoid(click.scale * scores_R + click.shift)
    torch.testing.assert_close(clicks_R, expected_R.detach(), rtol=1e-4, atol=1e-4)
    assert float(ratings_R.std()) > 0
