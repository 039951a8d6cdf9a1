"""Every stage computes with the threads that the settings say, whatever the process did before."""

from __future__ import annotations

import datetime
import os

import pytest
import torch
from one_step import Step

from crossweave.runtime.record import StageRecord
from crossweave.runtime.run import Run, StageContext

DATE = datetime.date(2026, 3, 1)


@pytest.mark.parametrize("left_behind", [1, 3])
@pytest.mark.parametrize("wanted", [1, 2, None])
def test_a_stage_has_the_threads_of_the_settings_and_leaves_those_of_the_process(
    make_settings, left_behind: int, wanted: int | None
):
    seen: list[int] = []

    def fit(context: StageContext, record: StageRecord) -> None:
        seen.append(torch.get_num_threads())
        torch.set_num_threads(4)  # what a stage leaves behind is not the next one's either

    torch.set_num_threads(left_behind)
    settings = make_settings(spark__driver_threads=wanted)
    assert (
        Run("fit", settings, DATE).execute([Step("fit", fit), Step("again", fit)], lambda record: None).exit_code == 0
    )
    assert seen == [wanted or len(os.sched_getaffinity(0))] * 2
    assert torch.get_num_threads() == left_behind
