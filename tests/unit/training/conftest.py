"""A training plan on the night's tensors."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Night

from crossweave.config import load_settings
from crossweave.runtime.plan import plan_context
from crossweave.stages import train as stage
from crossweave.training.plan import TrainingPlan

MakePlan = Callable[..., TrainingPlan]


@pytest.fixture
def training_plan(night: Night, tmp_path: Path) -> MakePlan:
    """Return a function that plans a training into a folder of the test's own; pairs are settings."""

    def make(**pairs: Any) -> TrainingPlan:
        words = night.chain.words(**pairs)
        files = [Path(words[i + 1]) for i, word in enumerate(words) if word == "--conf"]
        given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        context = plan_context(load_settings(files, given), datetime.date(2026, 1, 2))
        manifest, _ = stage._inputs(context)
        return stage.training_plan(context.settings, manifest, tmp_path, tmp_path / "progress.jsonl", "warm")

    return make
