"""`train` with a search: on the night's tensors, with real trainings of one rank."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from support import Chain, Night, stage

from crossweave.stages.train import TRAIN
from crossweave.training.planning import check_model

STAGES = [TRAIN]
QUICK = {"train__ranks": 1, "train__max_epochs": 2, "model__content_map_search": False}
SPACE = {
    "train.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "model.fusion": {"choices": ["gated", "weighted"]},
    "model.collaborative.edlae.l2": {"low": 1, "high": 8},
}


@pytest.fixture
def chain(night: Night, tmp_path: Path) -> Chain:
    """A copy of the night's workspace, so that trainings may be added to it."""
    shutil.copytree(night.chain.workspace, tmp_path / "ws", symlinks=True)
    return Chain(tmp_path / "ws", night.chain.root)


def trials(chain: Chain) -> list[dict[str, Any]]:
    [path] = chain.workspace.glob("models/search-*/trials.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def model(chain: Chain) -> Path:
    receipt = json.loads((chain.workspace / "receipts" / "train.json").read_text(encoding="utf-8"))
    return chain.workspace / "models" / receipt["details"]["folder"]


@pytest.mark.slow
def test_the_best_of_a_search_is_the_model_that_its_settings_alone_would_make(chain: Chain, tmp_path: Path):
    first = chain.run(STAGES, **QUICK, search__trials=2, search__space=SPACE)
    assert first["status"] == "ok", first["error"]
    two = trials(chain)
    result = chain.run(STAGES, **QUICK, search__trials=3, search__space=SPACE)
    assert result["status"] == "ok", result["error"]
    three = trials(chain)
    assert three[:2] == two  # the seconds too: they were not run again
    assert len(three) == 3
    assert all(trial["state"] == "complete" and len(trial["curve"]) == 2 for trial in three)
    best = max(three, key=lambda trial: trial["metric"])
    metrics = result["metrics"]
    assert metrics["train.validation_ndcg@20_blend"] == best["metric"]
    assert metrics["train.trials_complete"] == 3
    assert (chain.workspace / "runs" / "latest" / "trials.jsonl").is_file()
    assert stage(result, "train")["rows_out"] > 0
    found = model(chain)
    written = yaml.safe_load((found / "best.yaml").read_text(encoding="utf-8"))
    assert written["train"]["learning_rate"] == best["parameters"]["train.learning_rate"]
    assert len(list(chain.workspace.glob("models/search-*/trial-*"))) == 1

    again = chain.run(STAGES, **QUICK, search__trials=3, search__space=SPACE)
    assert again["status"] == "noop"
    assert trials(chain) == three

    conf = [Path("conf/local.yaml").resolve(), found / "best.yaml"]
    alone = chain.run(STAGES, conf=conf, **QUICK)
    assert alone["status"] == "ok", alone["error"]
    assert model(chain) != found
    ours, theirs = load_file(found / "model.safetensors"), load_file(model(chain) / "model.safetensors")
    assert {name: value.tolist() for name, value in ours.items()} == {n: v.tolist() for n, v in theirs.items()}
    assert alone["metrics"]["train.validation_ndcg@20_blend"] == best["metric"]


@pytest.mark.slow
def test_a_search_whose_every_loss_diverges_says_so_and_a_short_budget_is_trained_in_full(chain: Chain):
    words = QUICK | {"search__trials": 1, "model__collaborative": {"edlae": None}}
    failed = chain.run(STAGES, **words, search__space={"train.learning_rate": {"choices": [1e30]}})
    assert failed["exit_code"] == 2
    assert "TrainingDivergedError" in failed["error"]["message"]
    assert [trial["state"] for trial in trials(chain)] == ["failed"]
    shutil.rmtree(next(chain.workspace.glob("models/search-*")))

    space = {"train.learning_rate": {"choices": [0.01]}}
    result = chain.run(STAGES, **words, search__space=space, search__max_epochs=1)
    assert result["status"] == "ok", result["error"]
    assert len(trials(chain)[0]["curve"]) == 1
    assert len(json.loads((model(chain) / "model.json").read_text(encoding="utf-8"))["curves"]["loss"]) == 2
    assert json.loads((model(chain) / "model.json").read_text(encoding="utf-8"))["best_metric"] > 0


def test_a_part_that_does_not_exist_is_refused_before_any_trial(make_settings):
    from crossweave.errors import SettingsError

    settings = make_settings(search__trials=2, search__space={"model.fusion": {"choices": ["gated", "gatd"]}})
    with pytest.raises(SettingsError, match=r"search\.space\.model\.fusion: unknown fusion 'gatd'"):
        check_model(settings)
