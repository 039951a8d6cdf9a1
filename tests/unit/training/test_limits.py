"""Which settings of a training are refused, and where elastic ones may run."""

from __future__ import annotations

import pytest

from crossweave.errors import SettingsError
from crossweave.stages.train import _limits
from crossweave.storage.location import Location
from crossweave.training.collective import Limits
from crossweave.training.rank_ends import first_failure


@pytest.mark.parametrize("master", ["local", "local[2]", "local[*]"])
def test_an_elastic_training_is_refused_where_spark_gives_up_with_the_first_lost_task(make_settings, master) -> None:
    with pytest.raises(SettingsError, match="survives a failed task"):
        _limits(make_settings(train__elastic=True), master)
    assert _limits(make_settings(), master) == Limits(300, 60, 300, None)


@pytest.mark.parametrize("master", ["local[2,4]", "local-cluster[2,1,1024]", "yarn", "k8s://https://host:443"])
def test_an_elastic_training_may_lose_ranks_down_to_the_least_number(make_settings, master) -> None:
    settings = make_settings(train__elastic=True, train__ranks=3, train__min_ranks=2, train__stall_seconds=9)
    assert _limits(settings, master) == Limits(300, 60, 9, 2)


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ({"train__ranks": 2, "train__min_ranks": 3}, "must not exceed ranks 2"),
        ({"train__precision": "fp16", "train__device": "cpu"}, "fp16 needs a GPU"),
        ({"train__checkpoint_minutes": 0}, "checkpoint_minutes"),
        ({"train__accumulate": 0}, "accumulate"),
        ({"train__lr_scaling": "cubic"}, "lr_scaling"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(make_settings, pairs, told) -> None:
    with pytest.raises(SettingsError, match=told):
        make_settings(**pairs)


def test_the_output_of_a_lost_rank_is_named_where_it_lies_when_the_run_has_ended() -> None:
    nowhere = Location.of("s3://shop/ws/runs/one/ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crossweave.training.rank_ends.reports", lambda folder: [])
        assert "the ranks' output is in s3://shop/ws/runs/one/ranks" in first_failure(nowhere, OSError("x")).hint
