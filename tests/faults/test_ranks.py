"""Promise 13: a rank that is killed or stands still ends in a resume or in an error within the limit, never a hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from support import REPOSITORY, Night

from crossweave.errors import TryAgainError
from crossweave.training.collective import Collective, Limits, run_ranks
from crossweave.training.loop import TrainingOutcome, train
from crossweave.training.plan import TrainingPlan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),  # Horovod's, of a stopped rank
]


def hit(number: int, rank: int, at_step: int):
    """Return a training whose one rank sends itself a signal in the middle of an epoch; checkpoints at every step."""

    def work(plan: TrainingPlan, collective: Collective) -> TrainingOutcome:
        from crossweave.training.loop import Trainer

        step = Trainer._step

        def step_and_hit(self, batches):
            if self.collective.rank == rank and self.state.step == at_step:
                (plan.folder / "pid").local.write_text(str(os.getpid()))
                os.kill(os.getpid(), number)
            return step(self, batches)

        Trainer._step = step_and_hit
        return train(plan, collective)

    return work


def weights(folder: Path) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in load_file(folder / "model.safetensors").items()}


@pytest.fixture
def plan(training_plan) -> TrainingPlan:
    return training_plan(train__batch_users=4, train__max_epochs=2, train__checkpoint_minutes=1e-9)


def test_a_rank_killed_in_mid_epoch_ends_the_run_and_the_same_command_goes_on_to_the_same_weights(
    plan: TrainingPlan, tmp_path: Path
):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for folder in (whole, parted):
        folder.mkdir()
    curves = run_ranks(train, replace(plan, folder=whole), 2, 120, whole / "ranks", loopback=True).curves
    plan = replace(plan, folder=parted)
    with pytest.raises(TryAgainError, match="lost"):
        run_ranks(hit(signal.SIGKILL, 1, 3), plan, 2, 120, parted / "ranks", loopback=True)
    resumed = run_ranks(train, plan, 2, 120, parted / "ranks", loopback=True)
    assert resumed.figures["resumed_from_step"] == 3
    assert resumed.curves == curves
    assert weights(parted) == weights(whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_stands_still_ends_the_run_within_the_limit(plan: TrainingPlan, tmp_path: Path, rank: int):
    limits = Limits(120, stall_warn_seconds=2, stall_seconds=6)
    started = time.monotonic()
    with pytest.raises(TryAgainError):
        run_ranks(hit(signal.SIGSTOP, rank, 3), plan, 2, limits, tmp_path / "ranks", loopback=True)
    assert time.monotonic() - started < 60  # 6 of them of waiting, the rest of starting and of clearing away
    stopped, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 30
    while psutil.pid_exists(stopped) and psutil.Process(stopped).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the process that stands still is still there"
        time.sleep(0.5)


ELASTIC = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path

from pyspark.sql import SparkSession

from crossweave.config import load_settings
from crossweave.feeding.manifest import load_manifest
from crossweave.training.planning import training_plan
from crossweave.training.collective import Limits, run_ranks
from crossweave.training.loop import train


def killed_once(plan, collective):
    from crossweave.training.loop import Trainer

    step = Trainer._step

    def step_or_die(self, batches):
        mark = plan.folder.local / "killed"
        if self.collective.size == 2 and self.collective.rank == 1 and self.state.step == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batches)

    Trainer._step = step_or_die
    return train(plan, collective)


if __name__ == "__main__":
    master, tensors, folder, *pairs = sys.argv[1:]
    folder = Path(folder)
    session = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
    session = session.config("spark.driver.host", "127.0.0.1").getOrCreate()
    settings = load_settings([Path("conf/local.yaml")], pairs)
    plan = training_plan(settings, load_manifest(Path(tensors)), folder, folder / "progress.jsonl", "warm")
    limits = Limits(60, stall_warn_seconds=5, stall_seconds=20, min_ranks=1)
    outcome = run_ranks(killed_once, plan, 2, limits, folder / "ranks", loopback=True)
    facts = {"epochs": outcome.epochs, "curves": outcome.curves, "figures": outcome.figures}
    (folder / "outcome.json").write_text(json.dumps(facts))
    session.stop()
"""


def test_an_elastic_training_survives_the_loss_of_a_rank(night: Night, tmp_path: Path):
    import pyspark

    (tmp_path / "elastic.py").write_text(ELASTIC)
    tensors = next((night.chain.workspace / "tensors").glob("*/manifest.json")).parent
    pairs = ["model.dim=16", "model.projector_hidden=16", "train.batch_users=4", "train.max_epochs=6"]
    pairs += ["train.patience=6", "train.checkpoint_minutes=0.00001"]
    environment = {key: value for key, value in os.environ.items() if key != "PYSPARK_GATEWAY_PORT"}
    environment |= {"SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [sys.executable, str(tmp_path / "elastic.py"), "local-cluster[2,1,1024]", str(tensors), str(tmp_path)]
    with (tmp_path / "out.txt").open("wb") as out:
        done = subprocess.run(
            [*command, *pairs], cwd=REPOSITORY, env=environment, stdout=out, stderr=out, timeout=180, check=False
        )
    assert done.returncode == 0, (tmp_path / "out.txt").read_text(encoding="utf-8")[-3000:]
    assert (tmp_path / "killed").exists()
    outcome = json.loads((tmp_path / "outcome.json").read_text(encoding="utf-8"))
    assert outcome["epochs"] == 6
    assert [epoch for epoch, _ in outcome["curves"]["loss"]] == [1, 2, 3, 4, 5, 6]
    assert outcome["figures"]["resumed_from_step"] >= 5
    losses = [loss for _, loss in outcome["curves"]["loss"]]
    assert losses[-1] < losses[0]
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any("go on from step 5" in line.get("warning", "") for line in lines)
