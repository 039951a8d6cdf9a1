"""Models whose scores are no product of two vectors, trained and scored on the night's tensors."""

import json
import shutil

import numpy as np
import pytest
import torch
from support import Chain, Night

from crossweave.artifacts.model import TrainedModel
from crossweave.errors import SettingsError
from crossweave.stages.score import SCORE
from crossweave.stages.train import TRAIN
from crossweave.training.planning import check_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "model", [{"model__head": "mlp"}, {"model__head": "fm", "model__user_tower": "target_attention"}]
)
def test_every_user_is_served_and_reasons_are_given(night: Night, tmp_path, model):
    shutil.copytree(night.chain.workspace, tmp_path / "ws", symlinks=True)
    chain = Chain(tmp_path / "ws", night.chain.root)
    result = chain.run([TRAIN, SCORE], train__max_epochs=2, **model)
    assert result["status"] == "ok", result["error"]
    assert 0 < result["metrics"]["train.validation_ndcg@20"] <= 1
    rows, before = chain.table("recommendations"), night.chain.table("recommendations")
    assert len(rows) == len(before)
    assert [row["score"] for row in rows] != [row["score"] for row in before]
    explained = [dict(row["reasons"]) for row in rows if row["reasons"]]
    assert len(explained) == sum(bool(row["reasons"]) for row in before)
    assert all(np.isfinite(list(shares.values())).all() for shares in explained)
    folder = max((chain.workspace / "models").glob("*/model.json"), key=lambda path: path.stat().st_mtime).parent
    trained = TrainedModel.open(folder).load()
    assert not trained.is_product
    assert any(value.abs().sum() > 0 for value in _beyond(trained))


def test_factors_of_spark_s_als_are_blended_in_and_teach_the_content(night: Night, tmp_path):
    shutil.copytree(night.chain.workspace, tmp_path / "ws", symlinks=True)
    chain = Chain(tmp_path / "ws", night.chain.root)
    settings = {"rank": 8, "iterations": 3}
    result = chain.run(
        [TRAIN, SCORE],
        train__max_epochs=2,
        model__collaborative={"edlae": None, "als": settings},
        model__losses__distillation=0.5,
        model__loss_settings={"distillation": settings},
    )
    assert result["status"] == "ok", result["error"]
    folder = max((chain.workspace / "models").glob("*/model.json"), key=lambda path: path.stat().st_mtime).parent
    made = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert set(made["collaborative"]) <= {"als"}
    assert "loss/distillation" in made["curves"]
    assert np.load(chain.workspace / "training" / folder.name / "teacher.npy").shape == (made["spec"]["items"], 8)
    assert len(chain.table("recommendations")) == len(night.chain.table("recommendations"))


def _beyond(model) -> list[torch.Tensor]:
    """Return the weights that start at zero, where the model is a product."""
    return [model.head.last.weight] if model.spec.head == "mlp" else [model.user_tower.key.weight]


def test_a_head_that_does_not_fit_the_tower_or_is_unknown_is_refused(make_settings):
    with pytest.raises(SettingsError, match="target_attention needs a head that is a product") as refused:
        check_model(make_settings(model__user_tower="target_attention", model__head="mlp"))
    assert "cosine, dot, fm" in str(refused.value.hint)
    check_model(make_settings(model__user_tower="target_attention", model__head="fm"))
    with pytest.raises(SettingsError, match="unknown head"):
        check_model(make_settings(model__head="dots"))
